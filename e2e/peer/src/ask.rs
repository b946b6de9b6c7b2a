//! Asks peers, all at the same time. Where a process takes long to start, one is cheaper than many.
//!
//! `lab-peer ask SECONDS TARGET...` prints a line for each target, in their order: the answer (a name and an address), or
//! `-` and the reason why there is none. Targets are `tcp,ADDRESS:PORT` for HTTP, and `udp,ADDRESS:PORT,BYTES` for a
//! datagram of that size, which is expected back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use std::{env, thread};

/// Asks all targets of the command line.
pub fn all() -> io::Result<()> {
    let mut arguments = env::args().skip(2);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("how long?"))?;
    let patience = Duration::from_secs(seconds);
    let threads: Vec<_> = arguments.map(|target| thread::spawn(move || one(&target, patience))).collect();
    for thread in threads {
        match thread.join() {
            Ok(Ok(answer)) => println!("{}", answer.trim()),
            Ok(Err(error)) => println!("- {error}"),
            Err(_) => println!("- a panic"),
        }
    }
    Ok(())
}

fn one(target: &str, patience: Duration) -> io::Result<String> {
    let unknown = || io::Error::other(format!("{target} is no target"));
    let words: Vec<_> = target.split(',').collect();
    let to: SocketAddr = words.get(1).and_then(|text| text.parse().ok()).ok_or_else(unknown)?;
    match words.as_slice() {
        ["tcp", _] => http(to, patience),
        ["udp", _, bytes] => datagram(to, bytes.parse().map_err(io::Error::other)?, patience),
        _ => Err(unknown()),
    }
}

fn http(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: peer\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.trim().lines().last().map(str::to_owned).ok_or_else(|| io::Error::other("an empty answer"))
}

fn datagram(to: SocketAddr, bytes: usize, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    // Letters in an order that shows a part at the wrong place.
    let letter = |(at, letter)| if at % 1000 == 0 { b'.' } else { letter };
    let sent: Vec<u8> = (b'a'..=b'z').cycle().enumerate().take(bytes).map(letter).collect();
    socket.send(&sent)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    let line = buffer[..length].strip_suffix(sent.as_slice());
    let line = line.ok_or_else(|| io::Error::other("the answer does not contain what was sent"))?;
    Ok(String::from_utf8_lossy(line).into_owned())
}
