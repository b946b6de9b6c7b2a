//! Cuts a stream of bytes into JSON objects. OVSDB puts neither lengths nor newlines between them.
//!
//! Every byte is looked at once, however the stream is cut into reads. No input makes it panic or grow without bound.

/// The largest message that is accepted unless the configuration says otherwise: 512 MiB.
pub(super) const MAX_MESSAGE: usize = 512 << 20;

/// The deepest nesting of objects; a schema, the deepest message there is, needs seven.
const MAX_DEPTH: u32 = 64;

/// Cuts a stream of bytes into JSON objects.
#[derive(Debug)]
pub struct Framer {
    buf: Vec<u8>,
    /// Where the current message begins.
    start: usize,
    /// Up to here the bytes have been looked at.
    scanned: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    max_message: usize,
}

/// Why a stream is not a sequence of JSON objects that we accept. It cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something other than white space between two objects.
    #[error("byte {0:#04x} between two messages")]
    Between(u8),
    /// Objects within objects without end.
    #[error("message nested deeper than {MAX_DEPTH} objects")]
    TooDeep,
    /// One message is too large.
    #[error("message larger than {0} bytes")]
    TooLarge(usize),
}

impl Framer {
    /// A framer for messages of up to so many bytes.
    pub fn new(max_message: usize) -> Framer {
        Framer { buf: Vec::new(), start: 0, scanned: 0, depth: 0, in_string: false, escaped: false, max_message }
    }

    /// Where to append what was read, after [`Framer::next_message`] has said that there is no more.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        &mut self.buf
    }

    /// The next whole message, or `None` when more must be read.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buf.get(self.scanned) {
            self.scanned += 1;
            if self.scan(byte)? {
                return Ok(Some(self.cut()));
            }
            if self.scanned - self.start > self.max_message {
                return Err(FrameError::TooLarge(self.max_message));
            }
        }
        Ok(None)
    }

    /// Looks at one byte; true when it ends a message.
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
        if self.start == 0 && self.scanned == self.buf.len() {
            self.scanned = 0;
            return std::mem::take(&mut self.buf);
        }
        let message = self.buf[self.start..self.scanned].to_vec();
        self.start = self.scanned;
        message
    }
}
