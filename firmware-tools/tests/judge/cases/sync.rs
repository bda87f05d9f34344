//! Files.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Case, Mask, Step};

const FILE: &[u8] = b"/data/local/tmp/judge/file";
const TIME: u32 = 7;

/// Requests, one behind the other.
#[derive(Default)]
struct Requests(BytesMut);

impl Requests {
    fn ask(mut self, id: &[u8; 4], text: &[u8]) -> Self {
        self.0.put_slice(id);
        self.0.put_u32_le(text.len() as u32);
        self.0.put_slice(text);
        self
    }

    fn numbers(mut self, id: &[u8; 4], numbers: &[u32]) -> Self {
        self.0.put_slice(id);
        numbers.iter().for_each(|&number| self.0.put_u32_le(number));
        self
    }

    fn data(self, bytes: &[u8]) -> Self {
        self.ask(b"DATA", bytes)
    }

    fn done(self) -> Self {
        self.numbers(b"DONE", &[TIME])
    }

    /// A file of five bytes.
    fn send(self, path_and_mode: &[u8]) -> Self {
        self.ask(b"SEND", path_and_mode).data(b"hello").done()
    }

    fn quit(self) -> Bytes {
        self.numbers(b"QUIT", &[0]).0.freeze()
    }
}

fn requests() -> Requests {
    Requests::default()
}

/// After a file is there.
fn with_file() -> Requests {
    requests().send(b"/data/local/tmp/judge/file,33188")
}

fn case(name: &'static str, asked: Requests) -> Case {
    Case::ask(name, b"sync:", asked.quit()).masked(Mask::Files)
}

pub(super) fn all() -> Vec<Case> {
    [reading(), packed(), sending(), refused(), nonsense()].into_iter().flatten().collect()
}

fn reading() -> Vec<Case> {
    vec![
        case("sync-quit", requests()),
        case("stat", with_file().ask(b"STAT", FILE)),
        case("stat-nothing", requests().ask(b"STAT", b"/data/local/tmp/nothing")),
        case("stat-no-path", requests().ask(b"STAT", b"")),
        case("stat-folder", requests().ask(b"STAT", b"/data/local/tmp")),
        case("stat-two", with_file().ask(b"STAT", FILE).ask(b"STAT", b"/nothing")),
        case("stat-nul-inside", with_file().ask(b"STAT", b"/data/local/tmp/judge/file\0more")),
        case("stat-no-utf8", requests().ask(b"STAT", b"/\xff\xfe")),
        case("stat-path-of-1024", requests().ask(b"STAT", &[b'/'; 1024])),
        case("stat-long-name", requests().ask(b"STAT", &[&b"/"[..], &[b'n'; 299]].concat())),
        case("stat-v2", with_file().ask(b"STA2", FILE)),
        case("stat-v2-nothing", requests().ask(b"STA2", b"/data/local/tmp/nothing")),
        case("stat-v2-no-path", requests().ask(b"STA2", b"")),
        case("lstat-v2-below-a-file", with_file().ask(b"LST2", b"/data/local/tmp/judge/file/x")),
        case("stat-v2-folder", requests().ask(b"STA2", b"/data/local/tmp")),
        case(
            "list",
            requests().send(b"/data/local/tmp/judge-list/a,33188").ask(b"LIST", b"/data/local/tmp/judge-list"),
        ),
        case("list-nothing", requests().ask(b"LIST", b"/data/local/tmp/nothing")),
        case("list-file", with_file().ask(b"LIST", FILE)),
        case(
            "list-v2",
            requests().send(b"/data/local/tmp/judge-list/a,33188").ask(b"LIS2", b"/data/local/tmp/judge-list"),
        ),
        case("list-v2-nothing", requests().ask(b"LIS2", b"/data/local/tmp/nothing")),
        case("recv", with_file().ask(b"RECV", FILE)),
        case("recv-nothing", requests().ask(b"RECV", b"/data/local/tmp/nothing").ask(b"STAT", b"/")),
        case("recv-folder", requests().ask(b"RECV", b"/data/local/tmp").ask(b"STAT", b"/")),
        case("recv-below-a-file", with_file().ask(b"RECV", b"/data/local/tmp/judge/file/x")),
        case(
            "recv-empty",
            requests().ask(b"SEND", b"/data/local/tmp/e,33188").done().ask(b"RECV", b"/data/local/tmp/e"),
        ),
    ]
}

fn packed() -> Vec<Case> {
    let recv = |flags| with_file().ask(b"RCV2", FILE).numbers(b"RCV2", &[flags]);
    let send = |flags, data: &[u8]| {
        let asked = requests().ask(b"SND2", b"/data/local/tmp/packed").numbers(b"SND2", &[33188, flags]);
        asked.data(data).done().ask(b"STAT", b"/data/local/tmp/packed")
    };
    let frame = b"\x04\"M\x18@@\xc0\x05\0\0\x80hello\0\0\0\0";
    vec![
        case("recv-v2", recv(0)),
        case("recv-v2-lz4", recv(2)),
        case("recv-v2-brotli", recv(1)),
        case("recv-v2-zstd", recv(4)),
        case("recv-v2-two-packings", recv(6)),
        case("recv-v2-unknown-flag", recv(0x10)),
        case("recv-v2-wrong-id", with_file().ask(b"RCV2", FILE).numbers(b"XXXX", &[0])),
        case("recv-v2-nothing", requests().ask(b"RCV2", b"/nothing").numbers(b"RCV2", &[0])),
        case("send-v2", send(0, b"hello")),
        case("send-v2-lz4", send(2, frame)),
        case("send-v2-lz4-garbage", send(2, b"hello, this is no lz4 at all")),
        case("send-v2-two-packings", send(6, b"hello")),
        case("send-v2-unknown-flag", send(0x10, b"hello")),
        case(
            "send-v2-dry-run",
            requests()
                .ask(b"SND2", b"/data/local/tmp/dry")
                .numbers(b"SND2", &[33188, 0x8000_0000])
                .data(b"hello")
                .done()
                .ask(b"STAT", b"/data/local/tmp/dry"),
        ),
        case(
            "send-v2-wrong-id",
            requests().ask(b"SND2", b"/data/local/tmp/w").numbers(b"XXXX", &[33188, 0]).data(b"hello").done(),
        ),
    ]
}

fn sending() -> Vec<Case> {
    let sent = |path_and_mode: &[u8], path: &[u8]| requests().send(path_and_mode).ask(b"STAT", path);
    vec![
        case("send", sent(b"/data/local/tmp/s1,33188", b"/data/local/tmp/s1")),
        case("send-private", sent(b"/data/local/tmp/s2,33152", b"/data/local/tmp/s2")),
        case("send-executable", sent(b"/data/local/tmp/s3,33261", b"/data/local/tmp/s3")),
        case("send-makes-folders", sent(b"/data/local/tmp/new/deep/s4,33188", b"/data/local/tmp/new/deep")),
        case("send-mode-hex", sent(b"/data/local/tmp/s5,0x1a4", b"/data/local/tmp/s5")),
        case("send-mode-no-number", sent(b"/data/local/tmp/s6,abc", b"/data/local/tmp/s6")),
        case("send-mode-negative", sent(b"/data/local/tmp/s7,-1", b"/data/local/tmp/s7")),
        case("send-mode-empty", sent(b"/data/local/tmp/s8,", b"/data/local/tmp/s8")),
        case("send-mode-folder", sent(b"/data/local/tmp/s9,16877", b"/data/local/tmp/s9")),
        case(
            "send-link",
            with_file()
                .ask(b"SEND", b"/data/local/tmp/judge/link,41471")
                .data(b"file\0")
                .done()
                .ask(b"STAT", b"/data/local/tmp/judge/link")
                .ask(b"STA2", b"/data/local/tmp/judge/link")
                .ask(b"LST2", b"/data/local/tmp/judge/link")
                .ask(b"RECV", b"/data/local/tmp/judge/link"),
        ),
        case(
            "send-empty-data",
            requests().ask(b"SEND", b"/data/local/tmp/s10,33188").data(b"").done().ask(b"STAT", b"/data/local/tmp/s10"),
        ),
        case(
            "send-large-data",
            requests()
                .ask(b"SEND", b"/data/local/tmp/s11,33188")
                .data(&[b'x'; 300_000])
                .done()
                .ask(b"STAT", b"/data/local/tmp/s11"),
        ),
        case("send-replaces", with_file().send(b"/data/local/tmp/judge/file,33188").ask(b"STAT", FILE)),
    ]
}

fn refused() -> Vec<Case> {
    let waiting = |name, parts: Vec<Requests>| {
        let steps = parts.into_iter().map(|asked| Step::Write(asked.0.freeze()));
        let steps = std::iter::once(Step::open(b"sync:")).chain(steps).collect();
        Case::new(name, steps)
    };
    vec![
        case("send-onto-folder", requests().send(b"/data/local/tmp,33188").ask(b"STAT", b"/")),
        case("send-below-a-file", with_file().send(b"/data/local/tmp/judge/file/x,33188").ask(b"STAT", b"/")),
        case("send-where-no-folder-can-be", requests().send(b"/proc/nobody/x,33188").ask(b"STAT", b"/")),
        case("send-name-too-long", requests().send(&[&b"/data/local/tmp/"[..], &[b'n'; 256], b",33188"].concat())),
        case("send-long-path", requests().send(&[&[b'/'; 1025][..], b"x,33188"].concat())),
        case("send-no-path", requests().send(b",33188").ask(b"STAT", b"/")),
        case("send-slash-at-the-end", requests().send(b"/data/local/tmp/slash/,33188").ask(b"STAT", b"/")),
        case(
            "send-link-to-nothing",
            requests()
                .ask(b"SEND", b"/data/local/tmp/dangling,41471")
                .data(b"nothing\0")
                .done()
                .ask(b"RECV", b"/data/local/tmp/dangling"),
        ),
        case(
            "send-link-in-a-circle",
            requests()
                .ask(b"SEND", b"/data/local/tmp/circle,41471")
                .data(b"circle\0")
                .done()
                .ask(b"STA2", b"/data/local/tmp/circle")
                .ask(b"RECV", b"/data/local/tmp/circle"),
        ),
        case(
            "send-link-onto-folder",
            requests().ask(b"SEND", b"/data/local/tmp,41471").data(b"x\0").done().ask(b"STAT", b"/"),
        ),
        case(
            "send-v2-onto-folder",
            requests().ask(b"SND2", b"/data/local/tmp").numbers(b"SND2", &[33188, 0]).data(b"x").done(),
        ),
        case("recv-v2-folder", requests().ask(b"RCV2", b"/data/local/tmp").numbers(b"RCV2", &[0])),
        case("send-no-mode", requests().send(b"/data/local/tmp/n").ask(b"STAT", b"/")),
        waiting(
            "send-refused-at-once",
            vec![requests().ask(b"SEND", b"/data/local/tmp,33188"), requests().data(b"abc"), requests().done()],
        ),
        waiting(
            "send-refused-then-nonsense",
            vec![requests().ask(b"SEND", b"/data/local/tmp,33188"), requests().ask(b"XXXX", b"abc")],
        ),
    ]
}

fn nonsense() -> Vec<Case> {
    vec![
        case("sync-unknown", requests().ask(b"XXXX", b"abc")),
        case("sync-data-first", requests().data(b"abc")),
        case("sync-done-first", requests().done()),
        case("list-long-path", requests().ask(b"LIST", &[b'/'; 1025])),
        case("recv-long-path", requests().ask(b"RECV", &[b'/'; 1025])),
        case("sync-lower-case", requests().ask(b"stat", b"/")),
        case("sync-huge-length", Requests::default().numbers(b"STAT", &[u32::MAX])),
        case(
            "send-data-too-long",
            requests().ask(b"SEND", b"/data/local/tmp/huge,33188").numbers(b"DATA", &[u32::MAX]),
        ),
        case("sync-okay-first", requests().numbers(b"OKAY", &[0])),
        case("sync-fail-first", requests().ask(b"FAIL", b"abc")),
        case("sync-long-path", requests().ask(b"STAT", &[b'/'; 1025])),
        case("send-wrong-id", requests().ask(b"SEND", b"/data/local/tmp/m,33188").ask(b"XXXX", b"hello")),
        Case::ask("sync-half-a-request", b"sync:", &b"STAT\x05\0\0\0/"[..]).then(Step::Close),
    ]
}
