//! Splits a byte stream into JSON objects. OVSDB sends neither lengths nor newlines between them.
//!
//! The framer looks at every byte once, however the stream is split into reads. No input makes it panic or grow without
//! bound.

/// The limit on nested objects. A schema is the deepest message and needs seven levels.
const MAX_DEPTH: u32 = 64;

/// The framer keeps a buffer of up to this many bytes for the next message.
const KEPT: usize = 128 << 10;

/// Splits a byte stream into JSON objects.
#[derive(Debug)]
pub struct Framer {
    buf: Vec<u8>,
    /// The start of the current message.
    start: usize,
    /// The number of bytes already scanned.
    scanned: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    max_message: usize,
}

/// Why a stream is not an acceptable sequence of JSON objects. The stream cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A byte other than white space between two objects.
    #[error("byte {0:#04x} between two messages")]
    Between(u8),
    /// Objects nested too deep.
    #[error("message nested deeper than {MAX_DEPTH} objects")]
    TooDeep,
    /// A message that exceeds the limit.
    #[error("message larger than {0} bytes")]
    TooLarge(usize),
}

impl Framer {
    /// Returns a framer for messages of up to `max_message` bytes.
    pub fn new(max_message: usize) -> Framer {
        Framer { buf: Vec::new(), start: 0, scanned: 0, depth: 0, in_string: false, escaped: false, max_message }
    }

    /// Changes the limit. It also applies to the message that is being read.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// The buffer to append received bytes to, after [`Framer::next_message`] returned `None`.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        &mut self.buf
    }

    /// Returns the next complete message, or `None` if the framer needs more bytes.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buf.get(self.scanned) {
            self.scanned += 1;
            let whole = self.scan(byte)?;
            if self.scanned - self.start > self.max_message {
                return Err(FrameError::TooLarge(self.max_message));
            }
            if whole {
                return Ok(Some(self.cut()));
            }
        }
        Ok(None)
    }

    /// Scans one byte. Returns true if the byte ends a message.
    fn scan(&mut self, byte: u8) -> Result<bool, FrameError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' if self.depth == MAX_DEPTH => return Err(FrameError::TooDeep),
            b'{' => self.depth += 1,
            b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => self.start = self.scanned,
            _ if self.depth == 0 => return Err(FrameError::Between(byte)),
            b'"' => self.in_string = true,
            b'}' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }

    fn cut(&mut self) -> Vec<u8> {
        // A large message that fills the buffer is returned without a copy. For small messages the buffer is kept.
        if self.start == 0 && self.scanned == self.buf.len() && self.scanned > KEPT {
            self.scanned = 0;
            return std::mem::take(&mut self.buf);
        }
        let message = self.buf[self.start..self.scanned].to_vec();
        self.start = self.scanned;
        message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the chunks in turn and returns the messages up to the first error.
    fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<FrameError>) {
        let mut framer = Framer::new(64);
        let mut messages = Vec::new();
        for chunk in chunks {
            framer.buffer().extend_from_slice(chunk);
            loop {
                match framer.next_message() {
                    Ok(Some(message)) => messages.push(String::from_utf8(message).unwrap()),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    }

    #[test]
    fn streams_are_cut_at_the_closing_brace() {
        for (stream, expected) in [
            ("", vec![]),
            (" \r\n\t", vec![]),
            ("{}", vec!["{}"]),
            ("{}{}", vec!["{}", "{}"]),
            ("\n{} \n {\"a\":1}\n{", vec!["{}", "{\"a\":1}"]),
            (r#"{"a":{"b":{}}}{"c":[{}]}"#, vec![r#"{"a":{"b":{}}}"#, r#"{"c":[{}]}"#]),
            (r#"{"}{":"{"}{}"#, vec![r#"{"}{":"{"}"#, "{}"]),
            (r#"{"\"}":"\\"}{}"#, vec![r#"{"\"}":"\\"}"#, "{}"]),
            (r#"{"é":"\u007d"}"#, vec![r#"{"é":"\u007d"}"#]),
            (r#"{"open":"}"#, vec![]),
        ] {
            assert_eq!(
                frames([stream.as_bytes()]),
                (expected.into_iter().map(str::to_owned).collect(), None),
                "{stream}"
            );
        }
    }

    #[test]
    fn what_is_no_sequence_of_objects_is_an_error() {
        let deep = "{".repeat(65);
        let long = format!("{{{}", " ".repeat(64));
        for (stream, messages, error) in [
            ("}", 0, FrameError::Between(b'}')),
            ("[1]", 0, FrameError::Between(b'[')),
            ("{}\"{}\"", 1, FrameError::Between(b'"')),
            ("{}\0", 1, FrameError::Between(0)),
            (&deep, 0, FrameError::TooDeep),
            (&long, 0, FrameError::TooLarge(64)),
        ] {
            let (before, found) = frames([stream.as_bytes()]);
            assert_eq!((before.len(), found), (messages, Some(error)), "{stream}");
        }
    }

    #[test]
    fn the_limit_is_for_one_message_and_not_for_the_stream() {
        let stream = r#"{"a":"0123456789"} "#.repeat(1000);
        assert_eq!(frames([stream.as_bytes()]).0.len(), 1000);

        let message = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - r#"{"a":""}"#.len()));
        assert_eq!(frames([message(64).as_bytes(), b" ", message(64).as_bytes()]).0.len(), 2);
        assert_eq!(frames([message(65).as_bytes()]), (vec![], Some(FrameError::TooLarge(64))));
        // The framer refuses the message before it has received all of it.
        assert_eq!(frames([&message(100).as_bytes()[..65]]), (vec![], Some(FrameError::TooLarge(64))));
    }

    #[test]
    fn the_limit_can_change_in_the_middle_of_a_message() {
        let message = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        let mut framer = Framer::new(1000);
        framer.buffer().extend_from_slice(&message.as_bytes()[..70]);
        assert_eq!(framer.next_message(), Ok(None));
        framer.set_max_message(64);
        framer.buffer().extend_from_slice(&message.as_bytes()[70..]);
        assert_eq!(framer.next_message(), Err(FrameError::TooLarge(64)));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_messages_are_the_same(
            texts in prop::collection::vec(r#"[{}"\\\[\] a-cé]{0,12}"#, 0..6),
            cuts in prop::collection::vec(0_usize..100, 0..12),
        ) {
            let messages: Vec<_> = texts.iter().map(|text| serde_json::json!({ text: [text] }).to_string()).collect();
            let stream = messages.join("\n").into_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(frames(cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]])), (messages, None));
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8)) {
            let mut framer = Framer::new(64);
            for chunk in &chunks {
                framer.buffer().extend_from_slice(chunk);
                while let Ok(Some(_)) = framer.next_message() {}
            }
        }
    }
}
