//! The program in the lab's pods and outside of the cluster. Its answers show a test how a packet arrived.
//!
//! `lab-peer serve [NAME]` listens on all IPv4 and IPv6 addresses and answers with its name (by default the host name)
//! and the client's address: HTTP on TCP port 8080 (any path), plain TCP on port 8081, and UDP on port 8081 (the
//! answer, a space, and the received data). `lab-peer ask` asks peers, see [`ask`]. `lab-peer probe` counts lost packets, see [`probe`].
//! `lab-peer flood` sends packets at a rate, see [`flood`]. `lab-peer pause` holds the namespaces of a pod and runs until it is killed.
//!
//! The program uses only the standard library and is linked statically. It is the main content of the lab's image and
//! starts quickly.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use std::{env, fs, process, thread};

mod ask;
mod flood;
mod probe;

const HTTP: u16 = 8080;
const PLAIN: u16 = 8081;

fn main() {
    let done = match env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("ask") => ask::all(),
        Some("probe") => probe::send(),
        Some("flood") => flood::send(),
        // The process has no children here, because containers do not share a PID namespace with their sandbox. It
        // needs no reaping.
        Some("pause") => loop {
            thread::park();
        },
        _ => {
            eprintln!(
                "usage: lab-peer serve [NAME] | ask SECONDS TARGET... | probe ADDRESS MICROSECONDS | flood ADDRESS MBIT | pause"
            );
            process::exit(2);
        }
    };
    if let Err(e) = done {
        eprintln!("lab-peer: {e}");
        process::exit(1);
    }
}

fn serve() -> io::Result<()> {
    let name = env::args().nth(2).map_or_else(|| fs::read_to_string("/proc/sys/kernel/hostname"), Ok)?;
    let name: &'static str = name.trim().to_owned().leak();
    // `::` accepts both address families (the kernel's default, bindv6only=0). IPv4 clients appear as ::ffff:a.b.c.d.
    let http = TcpListener::bind(("::", HTTP))?;
    let plain = TcpListener::bind(("::", PLAIN))?;
    let datagrams = UdpSocket::bind(("::", PLAIN))?;
    thread::spawn(move || accept(&http, move |stream, from| answer_http(stream, &line(name, from))));
    thread::spawn(move || accept(&plain, move |mut stream, from| writeln!(stream, "{}", line(name, from))));
    thread::spawn(probe::answer);
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((n, from)) = datagrams.recv_from(&mut buffer) else { continue };
        let reply = [line(name, from).as_bytes(), b" ", &buffer[..n]].concat();
        let _ = datagrams.send_to(&reply, from);
    }
}

/// Serves each connection on its own thread, so that a slow client does not block others.
fn accept(listener: &TcpListener, answer: impl Fn(TcpStream, SocketAddr) -> io::Result<()> + Copy + Send + 'static) {
    for stream in listener.incoming().flatten() {
        let Ok(from) = stream.peer_addr() else { continue };
        thread::spawn(move || answer(stream, from));
    }
}

fn answer_http(mut stream: TcpStream, line: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16 * 1024 {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&chunk[..n]),
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{line}\n",
        line.len() + 1
    )
}

fn line(name: &str, from: SocketAddr) -> String {
    format!("{name} {}", from.ip().to_canonical())
}
