//! Packets at a rate.
//!
//! `lab-peer flood ADDRESS MBIT` sends UDP packets to the discard port of an address at MBIT Mbit/s, until it is killed. A
//! delay of the process is made up for at once, so that the rate holds on a busy machine.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{env, io, thread};

/// The discard port (RFC 863). Nothing listens there, and the kernel limits the rate of its refusals.
const PORT: u16 = 9;
/// The bytes of a packet, without the 42 or 62 of its headers.
const SIZE: usize = 1200;
/// The time between two bursts.
const TICK: Duration = Duration::from_millis(2);

/// Sends until the process is killed.
pub fn send() -> io::Result<()> {
    let mut arguments = env::args().skip(2);
    let mut next = || arguments.next().ok_or_else(|| io::Error::other("usage: lab-peer flood ADDRESS MBIT"));
    let to: IpAddr = next()?.parse().map_err(io::Error::other)?;
    let mbit: u32 = next()?.parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect((to, PORT))?;
    let (payload, start) = ([0; SIZE], Instant::now());
    let mut sent = 0_u128;
    loop {
        let due = start.elapsed().as_micros() * u128::from(mbit) / 8 / SIZE as u128;
        while sent < due {
            // A refusal of an earlier packet is reported here.
            let _ = socket.send(&payload);
            sent += 1;
        }
        thread::sleep(TICK);
    }
}
