//! Packets with sequence numbers, recorded at both ends.
//!
//! `lab-peer probe ADDRESS MICROSECONDS` sends a packet to the peer at this address each time the interval is over, until
//! its standard input ends. The peer records each packet and sends it back. Then the probe asks the peer what has arrived,
//! and prints one line with the numbers of both ends. Times are in milliseconds:
//!
//! ```text
//! flows
//! sent 1000 arrived 990 answered 988 pause-there 52 pause-here 57 lost-from 3400 lost-to 3455
//! ```
//!
//! The first line is printed when the first packet was answered. The pauses are the longest times between two packets at that end. The last two are when the first and the last
//! packet without an answer were sent, after the start.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

/// The UDP port of the end that answers.
const PORT: u16 = 8082;
/// The packet that asks what has arrived.
const REPORT: &[u8] = b"report";
/// The length of a number in a packet. A packet is the number of the probe, and then its own. The probe has a number because
/// its address is not always the same: the first packets can be translated to another one than those that follow.
const NUMBER: usize = 4;
/// How long a probe waits for the last answers, and for the report.
const PATIENCE: Duration = Duration::from_secs(20);

/// The packets that one end has seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    numbers: std::collections::BTreeSet<u32>,
    last: Option<Instant>,
    longest: Duration,
}

impl Seen {
    fn take(&mut self, packet: &[u8]) {
        let Ok(number) = <[u8; NUMBER]>::try_from(packet) else { return };
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
        }
        self.numbers.insert(u32::from_be_bytes(number));
    }
}

/// Records and returns packets, for as long as the process runs.
pub fn answer() -> io::Result<()> {
    let socket = UdpSocket::bind(("::", PORT))?;
    let mut seen: HashMap<[u8; NUMBER], Seen> = HashMap::new();
    let mut buffer = [0; 64];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let packet = &buffer[..length];
        let Some((probe, content)) = packet.split_first_chunk::<NUMBER>() else { continue };
        let of = seen.entry(*probe).or_default();
        if content == REPORT {
            let text = format!("arrived {} pause-there {}", of.numbers.len(), of.longest.as_millis());
            let _ = socket.send_to(text.as_bytes(), from);
        } else {
            of.take(content);
            let _ = socket.send_to(packet, from);
        }
    }
}

/// Sends packets until the standard input ends, and prints the result.
pub fn send() -> io::Result<()> {
    let mut arguments = env::args().skip(2);
    let mut next = || arguments.next().ok_or_else(|| io::Error::other("usage: lab-peer probe ADDRESS MICROSECONDS"));
    let to: IpAddr = next()?.parse().map_err(io::Error::other)?;
    let interval = Duration::from_micros(next()?.parse().map_err(io::Error::other)?);
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect((to, PORT))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;

    // Probes that run at the same time have different process IDs, or are in different namespaces, which start at different
    // times.
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let probe = (started ^ std::process::id()).to_be_bytes();
    let over = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&over);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
    });
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (report, reported) = std::sync::mpsc::channel();
    let (receiver, here) = (socket.try_clone()?, Arc::clone(&seen));
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            // A closed port, or nothing for a while, is a state that passes.
            let Ok(length) = receiver.recv(&mut buffer) else { continue };
            match &buffer[..length] {
                text if text.starts_with(b"arrived ") => drop(report.send(String::from_utf8_lossy(text).into_owned())),
                packet => {
                    let Some(content) = packet.strip_prefix(&probe) else { continue };
                    let mut seen = here.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.last.is_none() {
                        println!("flows");
                    }
                    seen.take(content);
                }
            }
        }
    });

    let sent = send_until(&over, &socket, interval, probe);
    let state = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = Instant::now();
    let mut answered = 0;
    // The last answers take as long as their way. None comes after a second of silence.
    while answered < sent.len() && Instant::now() < deadline && quiet.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(10));
        let now = state().numbers.len();
        if now > answered {
            (answered, quiet) = (now, Instant::now());
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let there = loop {
        let _ = socket.send(&[&probe, REPORT].concat());
        if let Ok(text) = reported.recv_timeout(Duration::from_millis(500)) {
            break text;
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("the peer does not say what has arrived"));
        }
    };
    let here = state();
    let mut silent =
        (0..).zip(&sent).filter(|(number, _)| !here.numbers.contains(number)).map(|(_, at)| at.as_millis());
    let first = silent.next().unwrap_or(0);
    let last = silent.last().unwrap_or(first);
    let (sent, answered, longest) = (sent.len(), here.numbers.len(), here.longest.as_millis());
    println!("sent {sent} {there} answered {answered} pause-here {longest} lost-from {first} lost-to {last}");
    Ok(())
}

/// Returns when each packet was sent, after the start.
fn send_until(over: &AtomicBool, socket: &UdpSocket, interval: Duration, probe: [u8; NUMBER]) -> Vec<Duration> {
    let start = Instant::now();
    let mut sent = Vec::new();
    let mut due = start;
    let mut number: u32 = 0;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.push(start.elapsed());
        // A packet that the kernel refuses to send is lost.
        let _ = socket.send(&[probe, number.to_be_bytes()].concat());
        number += 1;
        // One that is late is not followed by a burst.
        due = Instant::now().max(due + interval);
    }
    sent
}
