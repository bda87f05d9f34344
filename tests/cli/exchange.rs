//! `farmhand phone A1 shell` in front of a daemon that takes nothing for a while, and on a terminal whose size changes.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::adb::services::shell::{ShellMode, WindowSize};
use farmhand::phone::tools::wire::{self, Answer, Ask, Down, Frame as _, Up, Work};
use nix::pty::openpty;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

/// What of input and of output there is: more than pipes and sockets hold.
const BYTES: usize = 6 << 20;
/// A pipe that took nothing for so long is taken for full.
const FULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// A busy machine may be late.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon's end of the tool server, and the program in front of it.
struct Stage {
    daemon: UnixStream,
    child: Child,
    seen: BytesMut,
    _state: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Starts `farmhand phone A1 shell`, by the program and words before it, once `with` has given it what it reads and writes.
    fn set(before: &[&str], with: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let state = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(state.path().join(wire::SOCKET)).unwrap();
        let words = [before, &[env!("CARGO_BIN_EXE_farmhand")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--state").arg(state.path()).args(["phone", "A1", "shell"]).env("TERM", "xterm");
        let child = with(&mut command).spawn().unwrap();
        let (daemon, _) = listener.accept().unwrap();
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        daemon.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { daemon, child, seen: BytesMut::new(), _state: state }
    }

    /// What it says next.
    fn next(&mut self) -> Up {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(up) = wire::take_frame(&mut self.seen).unwrap() {
                return up;
            }
            let len = self.daemon.read(&mut chunk).unwrap();
            assert!(len > 0, "it hung up");
            self.seen.extend_from_slice(&chunk[..len]);
        }
    }

    fn mode(&mut self) -> ShellMode {
        match self.next() {
            Up::Ask(Ask { work: Work::Shell { mode, .. }, .. }) => mode,
            other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, down: Down) {
        let (kind, payload) = down.emit();
        self.daemon.write_all(&[&wire::head(kind, payload.len())[..], &payload].concat()).unwrap();
    }

    fn ends_with(&mut self, code: i32) {
        self.tell(Down::Done(Answer::Exit { status: u8::try_from(code).ok() }));
        assert_eq!(self.child.wait().unwrap().code(), Some(code));
    }
}

fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(&mut next).take(BYTES).collect()
}

/// Writes until the pipe has taken nothing for a while; gives how much it took.
fn fill(pipe: &mut (impl Write + AsFd), bytes: &[u8]) -> usize {
    let flags = fcntl_getfl(&*pipe).unwrap();
    fcntl_setfl(&*pipe, flags | OFlags::NONBLOCK).unwrap();
    let mut taken = 0;
    loop {
        match pipe.write(&bytes[taken..]) {
            Ok(len) => taken += len,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(taken < bytes.len(), "all of it was taken, and nobody reads");
        let room = poll(&mut [PollFd::new(&*pipe, PollFlags::OUT)], Some(&FULL)).unwrap();
        if room == 0 {
            fcntl_setfl(&*pipe, flags).unwrap();
            return taken;
        }
    }
}

#[test]
fn while_the_daemon_takes_no_input_its_output_goes_on_and_nothing_is_lost_either_way() {
    let mut stage = Stage::set(&[], |command| command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(stage.mode(), ShellMode::Raw);
    let (input, output) = (noise(1), noise(2));
    let mut stdin = stage.child.stdin.take().unwrap();
    let taken = fill(&mut stdin, &input);
    assert!(taken > 128 << 10, "the socket and the pipe are full: {taken} bytes");

    let (mut stdout, (told, heard)) = (stage.child.stdout.take().unwrap(), mpsc::channel());
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; BYTES];
        let read = stdout.read_exact(&mut all);
        told.send(read.map(|()| all)).unwrap();
    });
    for chunk in output.chunks(wire::PAYLOAD_MAX) {
        stage.tell(Down::Output(Bytes::copy_from_slice(chunk)));
    }
    let heard = heard.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(heard == output);
    reader.join().unwrap();

    let left = input[taken..].to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&left).unwrap());
    let mut arrived = Vec::new();
    loop {
        match stage.next() {
            Up::Input(bytes) => arrived.extend_from_slice(&bytes),
            Up::EndOfInput => break,
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    assert!(arrived == input);
    stage.ends_with(7);
}

#[test]
fn each_new_size_of_the_terminal_is_told() {
    let size = |rows, columns| WindowSize { rows, columns };
    let terminal = openpty(None, None).unwrap();
    let resize = |rows, columns| {
        let new = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal.master, new).unwrap();
    };
    resize(30, 100);
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    // The kernel tells a new size to those whose terminal it is.
    let mut stage = Stage::set(&["setsid", "--ctty"], |command| command.stdin(end()).stdout(end()).stderr(end()));
    assert_eq!(stage.mode(), ShellMode::Terminal { name: "xterm".to_owned(), size: size(30, 100) });
    for (rows, columns) in [(50, 120), (24, 80)] {
        resize(rows, columns);
        assert_eq!(stage.next(), Up::Resize(size(rows, columns)));
    }
    let mut keys = File::from(terminal.master.try_clone().unwrap());
    keys.write_all(b"\x03").unwrap();
    assert_eq!(stage.next(), Up::Input(Bytes::from_static(b"\x03")), "no key means anything to this host");
    stage.ends_with(3);
}
