//! Fuzzes the framer: the messages do not depend on how the stream is split into reads, and no message exceeds the
//! limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::client::{FrameError, Framer};

const MAX: usize = 256;

fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut framer = Framer::new(MAX);
    let mut messages = Vec::new();
    for chunk in chunks {
        framer.buffer().extend_from_slice(chunk);
        loop {
            match framer.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(framer.buffer().len() <= MAX);
    }
    (messages, None)
}

// The first byte is the length of the chunks.
fuzz_target!(|input: (u8, &[u8])| {
    let (length, stream) = input;
    let whole = frames(std::iter::once(stream));
    assert_eq!(frames(stream.chunks(usize::from(length).max(1))), whole);
    for message in &whole.0 {
        assert!(message.len() <= MAX);
        assert!(message.starts_with(b"{") && message.ends_with(b"}"));
        // A message that parses as JSON is exactly one object.
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(message) {
            assert!(value.is_object());
        }
    }
});
