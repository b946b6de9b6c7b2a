//! The part of `OpenFlow` 1.5 that is needed here, as bytes. ovn-controller uses the same version.

use std::io;

use api::annotations::Limit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 6;

/// `OFPT_*`
mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const ERROR: u8 = 1;
    pub(super) const PACKET_OUT: u8 = 13;
    pub(super) const MULTIPART_REQUEST: u8 = 18;
    pub(super) const MULTIPART_REPLY: u8 = 19;
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

/// Sends requests, and waits until the bridge has processed them. Returns the bodies of the multipart replies.
pub(super) async fn talk(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    requests: &[u8],
) -> Result<Vec<Vec<u8>>, Error> {
    let (hello, barrier) = (message(kind::HELLO, &[]), message(kind::BARRIER_REQUEST, &[]));
    stream.write_all(&[&hello, requests, &barrier].concat()).await?;
    let mut replies = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).await?;
        let [_, kind, high, low, ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut body = vec![0; length.saturating_sub(header.len())];
        stream.read_exact(&mut body).await?;
        match (kind, &body[..]) {
            (kind::BARRIER_REPLY, _) => return Ok(replies),
            (kind::MULTIPART_REPLY, _) => replies.push(body),
            (kind::ERROR, [a, b, c, d, ..]) => {
                return Err(Error::Refused { kind: u16::from_be_bytes([*a, *b]), code: u16::from_be_bytes([*c, *d]) });
            }
            _ => {} // the bridge's HELLO
        }
    }
}

/// Returns the requests that send frames into the bridge's pipeline with input port `in_port`.
pub(super) fn packets_out(in_port: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| packet_out(in_port, frame)).collect()
}

/// Returns the request for the descriptions of all meters.
pub(super) fn all_meters() -> Vec<u8> {
    /// `OFPMP_METER_DESC`, without flags.
    const METER_DESC: [u8; 8] = [0, 10, 0, 0, 0, 0, 0, 0];
    /// `OFPM_ALL`, and padding.
    const ALL: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    message(kind::MULTIPART_REQUEST, &[METER_DESC, ALL].concat())
}

/// Returns the limits in replies to [`all_meters`]: those of bands that drop packets, in kbit/s and kbit.
pub(super) fn limits(replies: &[Vec<u8>]) -> Vec<Limit> {
    /// The sizes of the headers of a multipart reply, of a meter and of a band.
    const SIZES: [usize; 3] = [8, 8, 16];
    /// `OFPMBT_DROP`.
    const DROP: u16 = 1;
    let half = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word = |bytes: &[u8], at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut limits = Vec::new();
    for reply in replies {
        let mut meters = reply.get(SIZES[0]..).unwrap_or_default();
        while let Some(length) = half(meters, 0).map(usize::from).filter(|length| *length >= SIZES[1]) {
            let bands = meters.get(SIZES[1]..length).unwrap_or_default();
            for band in bands.chunks_exact(SIZES[2]).filter(|band| half(band, 0) == Some(DROP)) {
                limits.extend(word(band, 4).zip(word(band, 8)).map(|(rate, burst)| Limit { rate, burst }));
            }
            meters = meters.get(length..).unwrap_or_default();
        }
    }
    limits
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
    async fn talk(answers: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
        let (mut ours, mut bridge) = tokio::io::duplex(4096);
        bridge.write_all(&answers.concat()).await.unwrap();
        bridge.shutdown().await.unwrap();
        super::talk(&mut ours, &packets_out(7, &[vec![1; 42], vec![2; 86]])).await
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
    fn meters_are_read_from_all_replies_and_nonsense_is_none() {
        let band = |kind: u8, rate: u8, burst: u8| [0, kind, 0, 16, 0, 0, 0, rate, 0, 0, 0, burst, 0, 0, 0, 0].to_vec();
        let meter = |bands: &[Vec<u8>]| {
            let length = u8::try_from(8 + 16 * bands.len()).unwrap();
            [&[0, length, 0, 5, 0, 0, 0, 1][..], &bands.concat()].concat()
        };
        let reply = |meters: &[Vec<u8>]| [&[0, 10, 0, 0, 0, 0, 0, 0][..], &meters.concat()].concat();
        let first = reply(&[meter(&[band(1, 10, 8)]), meter(&[]), meter(&[band(2, 1, 1), band(1, 20, 16)])]);
        let read = |replies: &[Vec<u8>]| limits(replies).iter().map(|l| (l.rate, l.burst)).collect::<Vec<_>>();
        assert_eq!(read(&[first.clone(), reply(&[meter(&[band(1, 5, 4)])])]), [(10, 8), (20, 16), (5, 4)]);
        for end in 0..first.len() {
            read(&[first[..end].to_vec()]);
        }
        assert!(read(&[vec![0xff; 40], vec![0; 40]]).is_empty());
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
