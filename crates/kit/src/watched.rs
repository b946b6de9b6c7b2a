//! A directory whose changes are reported (inotify(7)).

use std::io;
use std::path::Path;

use futures::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchMask};

/// The size of the buffer in bytes. An event has at most 16 bytes and a name of 256 bytes.
const BUFFER: usize = 4096;

/// A watched directory.
#[allow(missing_debug_implementations)] // the stream has none
pub struct Watched(EventStream<[u8; BUFFER]>);

impl Watched {
    /// Starts to watch a directory. Needs a tokio runtime.
    pub fn of(dir: &Path) -> io::Result<Self> {
        use WatchMask as On;
        let inotify = Inotify::init()?;
        let files = On::CREATE | On::DELETE | On::MOVED_FROM | On::MOVED_TO | On::CLOSE_WRITE;
        inotify.watches().add(dir, files | On::DELETE_SELF | On::MOVE_SELF | On::ONLYDIR)?;
        Ok(Self(inotify.into_event_stream([0; BUFFER])?))
    }

    /// Waits for a change, and takes those that have arrived by then. Returns false if the directory was deleted or renamed.
    pub async fn changed(&mut self) -> io::Result<bool> {
        let mut next = self.0.next().await;
        while let Some(event) = next.transpose()? {
            if ends(event.mask) {
                return Ok(false);
            }
            match self.0.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// Returns true if the directory was deleted or renamed.
fn ends(event: EventMask) -> bool {
    event.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT)
}
