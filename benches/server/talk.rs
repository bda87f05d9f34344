//! Requests to an adb server as bytes, without a client's process around them.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::report::{Goal, median, report};
use crate::stage::{ADBD, FARMHAND_PORT, PHONE};

const SHELLS: usize = 200;
/// At one server in a row, before the other one's turn.
const SHELLS_PER_TURN: usize = 20;
/// Past this there is nothing to measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the server at this port, on which these requests are answered by OKAY.
pub(crate) fn asked(port: u16, requests: &[&str]) -> io::Result<TcpStream> {
    asked_within(PATIENCE, port, requests)
}

/// The same for who does not wait that long for an answer.
pub(crate) fn asked_within(patience: Duration, port: u16, requests: &[&str]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    for request in requests {
        socket.write_all(format!("{:04x}{request}", request.len()).as_bytes())?;
        let mut word = [0; 4];
        socket.read_exact(&mut word)?;
        if &word != b"OKAY" {
            let mut why = String::new();
            socket.read_to_string(&mut why)?;
            return Err(io::Error::other(format!("port {port}: {request}: {why}")));
        }
    }
    Ok(socket)
}

/// A text behind its length.
pub(crate) fn text(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let head = std::str::from_utf8(&head).map_err(io::Error::other)?;
    let mut text = vec![0; usize::from_str_radix(head, 16).map_err(io::Error::other)?];
    socket.read_exact(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// `shell:true`, a socket each, from the connection to its end.
pub(crate) fn shells(google_port: u16) -> io::Result<()> {
    let servers = [(FARMHAND_PORT, PHONE), (google_port, ADBD)];
    let mut took = [Vec::new(), Vec::new()];
    for turn in 0..SHELLS / SHELLS_PER_TURN {
        for index in [turn % 2, (turn + 1) % 2] {
            let (port, serial) = servers[index];
            for _ in 0..SHELLS_PER_TURN {
                let begun = Instant::now();
                let mut socket = asked(port, &[&format!("host:transport:{serial}"), "shell:true"])?;
                let mut rest = Vec::new();
                socket.read_to_end(&mut rest)?;
                took[index].push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let [ours, googles] = took.map(median);
    say(&format!("shell:true, median, ms: farmhand's server {ours:.2}, google's server 34 {googles:.2}"));
    report("server.shell_roundtrip", ours / googles, "ratio", Goal::AtMost(0.95))
}

#[allow(clippy::print_stdout, reason = "printing is what a bench is for")]
pub(crate) fn say(text: &str) {
    println!("# {text}");
}
