//! A TCP connection that ends soon after its peer is gone, and not because the peer is busy.
//!
//! The kernel tells the two apart: that of a peer that does not read still acknowledges. `TCP_USER_TIMEOUT` (tcp(7)) would end those
//! connections as well, because it counts a closed window as silence.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior};

/// How long a peer may acknowledge nothing that it was sent, in milliseconds.
const SILENCE: u32 = 3_000;

/// How often that is looked at.
const TICK: Duration = Duration::from_secs(1);

/// The first fields of `struct tcp_info` (linux/tcp.h).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Info {
    states: [u8; 8],
    timers: [u32; 4],
    unacked: u32,
    losses: [u32; 4],
    last_sent: [u32; 2],
    last_data_received: u32,
    last_ack_received: u32,
}

/// The state of a TCP connection.
#[derive(Clone, Copy, Debug)]
struct TcpInfo;

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Info, sockopt::GetStruct<Info>);

/// A connection.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    tick: Interval,
}

impl Watched {
    /// Watches a connection, which sends small messages at once.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // Without data under way, the kernel asks.
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        setsockopt(&stream, sockopt::TcpKeepIdle, &1)?;
        setsockopt(&stream, sockopt::TcpKeepInterval, &1)?;
        setsockopt(&stream, sockopt::TcpKeepCount, &3)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { stream, tick })
    }

    fn is_gone(&self) -> bool {
        getsockopt(&self.stream, TcpInfo).is_ok_and(|info| info.unacked > 0 && info.last_ack_received > SILENCE)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.tick.poll_tick(cx).is_ready() {
            if self.is_gone() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A peer that does not read closes its window, and its kernel goes on acknowledging.
    #[tokio::test]
    async fn a_peer_that_does_not_read_is_not_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async {
            listener.accept().await.unwrap().0
        });
        let (mut peer, mut watched) = (client.unwrap(), Watched::new(server).unwrap());
        let full = tokio::time::timeout(Duration::from_millis(300), watched.write_all(&vec![0; 64 << 20])).await;
        assert!(full.is_err(), "all of it was taken");
        let waited = tokio::time::timeout(Duration::from_millis(4500), watched.read_u8()).await;
        assert!(waited.is_err(), "{waited:?}");
        peer.write_u8(7).await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap(), 7);
    }
}
