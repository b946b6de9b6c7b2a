//! The part of `OpenFlow` 1.5 that is needed to send frames to a bridge. ovn-controller uses the same version.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 6;

/// `OFPT_*`
mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const ERROR: u8 = 1;
    pub(super) const PACKET_OUT: u8 = 13;
    pub(super) const BARRIER_REQUEST: u8 = 20;
    pub(super) const BARRIER_REPLY: u8 = 21;
}

/// Why the frames were not sent.
#[derive(Debug)]
pub(super) enum Error {
    /// The connection failed.
    Io(io::Error),
    /// The bridge refused a request.
    Refused { kind: u16, code: u16 },
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sends frames into the bridge's pipeline with input port `in_port`, and waits until the bridge has processed them.
pub(super) async fn packets_out(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    in_port: u32,
    frames: &[Vec<u8>],
) -> Result<(), Error> {
    let mut request = message(kind::HELLO, &[]);
    for frame in frames {
        request.extend(packet_out(in_port, frame));
    }
    request.extend(message(kind::BARRIER_REQUEST, &[]));
    stream.write_all(&request).await?;
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).await?;
        let [_, kind, high, low, ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut body = vec![0; length.saturating_sub(header.len())];
        stream.read_exact(&mut body).await?;
        match (kind, &body[..]) {
            (kind::BARRIER_REPLY, _) => return Ok(()),
            (kind::ERROR, [a, b, c, d, ..]) => {
                return Err(Error::Refused { kind: u16::from_be_bytes([*a, *b]), code: u16::from_be_bytes([*c, *d]) });
            }
            _ => {} // the bridge's HELLO
        }
    }
}

/// Returns an `OFPT_PACKET_OUT` whose only action is `OFPP_TABLE`.
fn packet_out(in_port: u32, frame: &[u8]) -> Vec<u8> {
    const NO_BUFFER: u32 = u32::MAX;
    const TABLE: u32 = 0xffff_fff9;
    /// `OXM_OF_IN_PORT`, four bytes.
    const IN_PORT: u32 = 0x8000_0004;
    let action = [&[0, 0, 0, 16][..], &TABLE.to_be_bytes(), &[0; 8]].concat();
    let matching = [&[0, 1, 0, 12][..], &IN_PORT.to_be_bytes(), &in_port.to_be_bytes(), &[0; 4]].concat();
    let body = [&NO_BUFFER.to_be_bytes()[..], &[0, 16, 0, 0], &matching, &action, frame].concat();
    message(kind::PACKET_OUT, &body)
}

/// The transaction ID is always 0, because a connection carries no concurrent requests.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).unwrap_or(u16::MAX);
    [&[VERSION, kind][..], &length.to_be_bytes(), &[0; 4], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends two frames to a bridge that replies with `answers`.
    async fn talk(answers: &[Vec<u8>]) -> Result<(), Error> {
        let (mut ours, mut bridge) = tokio::io::duplex(4096);
        bridge.write_all(&answers.concat()).await.unwrap();
        bridge.shutdown().await.unwrap();
        packets_out(&mut ours, 7, &[vec![1; 42], vec![2; 86]]).await
    }

    #[tokio::test]
    async fn the_barrier_is_waited_for() {
        let hello = message(kind::HELLO, &[0, 1, 0, 8, 0, 0, 0, 0x40]);
        talk(&[hello.clone(), message(kind::BARRIER_REPLY, &[])]).await.unwrap();
        assert!(matches!(talk(&[hello]).await, Err(Error::Io(_))));
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_and_nonsense_too() {
        let refused = talk(&[message(kind::ERROR, &[0, 1, 0, 5])]).await;
        assert!(matches!(refused, Err(Error::Refused { kind: 1, code: 5 })), "{refused:?}");
        assert!(matches!(talk(&[vec![0xff; 8]]).await, Err(Error::Io(_))));
        assert!(matches!(talk(&[vec![0; 8]]).await, Err(Error::Io(_))));
    }

    #[test]
    fn a_packet_out_is_laid_out_as_openflow_1_5_has_it() {
        let message = packet_out(7, &[0xab; 3]);
        let expected: &[&[u8]] = &[
            &[6, 13, 0, 51, 0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0, 16, 0, 0],
            &[0, 1, 0, 12, 0x80, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0],
            &[0, 0, 0, 16, 0xff, 0xff, 0xff, 0xf9, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xab; 3],
        ];
        assert_eq!(message, expected.concat());
    }
}
