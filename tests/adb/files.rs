//! Files, folders, terminals and tunnels, with Google's adbd at the other end.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use farmhand::adb::services::Source;
use farmhand::adb::services::reverse::pump;
use farmhand::adb::services::shell::{ShellEvent, ShellMode, ShellReader, WindowSize};
use farmhand::adb::services::sync::{Compression, Fate, PullOptions, PushOptions, RemoteFile, SmallFile, SyncError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::adbd::with_adbd;
use crate::google::noise;

fn remote(path: &Path) -> RemoteFile {
    RemoteFile { path: path.display().to_string(), mode: 0o600, mtime_s: 1_700_000_000 }
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n} of a log\n").into_bytes()).take(len).collect()
}

#[test]
fn a_file_goes_and_comes_back_byte_for_byte_compressed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    with_adbd(async move |adbd| {
        let adb = adbd.connect().await;
        for (n, content) in [noise((5 << 20) + 4321), text((5 << 20) + 4321), Vec::new()].into_iter().enumerate() {
            let here = dir.path().join("here");
            fs::write(&here, &content).unwrap();
            for compression in [Compression::Auto, Compression::Lz4, Compression::None] {
                let to = remote(&dir.path().join(format!("there-{n}-{compression:?}")));
                let (progress, seen) = watch::channel(0);
                let options = PushOptions { compression, progress: Some(progress), ..PushOptions::default() };
                let len = adb.push(File::open(&here).unwrap(), &to, &options).await.unwrap();
                assert_eq!((len, *seen.borrow()), (content.len() as u64, len));
                assert!(fs::read(&to.path).unwrap() == content, "pushed with {compression:?}, the bytes differ");

                let mut back = tempfile::tempfile().unwrap();
                let options = PullOptions { compression, progress: None };
                let pulled = adb.pull(&to.path, Arc::new(back.try_clone().unwrap()), &options).await.unwrap();
                assert_eq!(pulled, len);
                let mut bytes = Vec::new();
                back.rewind().unwrap();
                back.read_to_end(&mut bytes).unwrap();
                assert!(bytes == content, "pulled with {compression:?}, the bytes differ");
            }
        }
        let missing = adb.pull("/nothing/here", Arc::new(tempfile::tempfile().unwrap()), &PullOptions::default()).await;
        assert!(matches!(&missing, Err(SyncError::Failed(why)) if why.contains("No such file")), "{missing:?}");
    });
}

#[test]
fn a_dry_run_takes_the_bytes_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    with_adbd(async move |adbd| {
        let adb = adbd.connect().await;
        let here = dir.path().join("here");
        fs::write(&here, text((3 << 20) + 17)).unwrap();
        for compression in [Compression::Lz4, Compression::None] {
            let to = remote(&dir.path().join("there"));
            let options = PushOptions { compression, fate: Fate::Discarded, progress: None };
            let len = adb.push(File::open(&here).unwrap(), &to, &options).await.unwrap();
            assert_eq!(len, (3 << 20) + 17);
            assert!(!Path::new(&to.path).exists(), "{compression:?}");
        }
    });
}

#[test]
fn many_small_files_go_back_to_back_and_the_first_that_fails_is_named() {
    let dir = tempfile::tempdir().unwrap();
    with_adbd(async move |adbd| {
        let adb = adbd.connect().await;
        let content = |n: usize| Bytes::from(noise(n * 37 % 9000));
        let files = |folder: &'static str, count: usize| {
            let (queue, files) = mpsc::channel(8);
            let dir = dir.path().join(folder);
            tokio::spawn(async move {
                for n in 0..count {
                    let to = remote(&dir.join(format!("sub{}/{n}", n % 3)));
                    if queue.send(SmallFile { to, content: content(n) }).await.is_err() {
                        break;
                    }
                }
            });
            files
        };
        assert_eq!(adb.push_many(files("all", 500)).await.unwrap(), 500);
        let listed = adb.list(&dir.path().join("all/sub1").display().to_string()).await.unwrap();
        assert_eq!(listed.len(), 167);
        assert!(listed.iter().all(|entry| entry.stat.is_some_and(|stat| stat.is_file())));
        for n in 0..500 {
            assert!(fs::read(dir.path().join(format!("all/sub{}/{n}", n % 3))).unwrap() == content(n), "file {n}");
        }

        fs::create_dir(dir.path().join("some")).unwrap();
        fs::write(dir.path().join("some/sub2"), "a file where a folder should be").unwrap();
        let (path, error) = adb.push_many(files("some", 500)).await.unwrap_err();
        assert!(path.ends_with("some/sub2/2"), "{path}: {error}");
        assert!(matches!(error, SyncError::Failed(_)), "{error}");
        assert!(dir.path().join("some/sub1/1").exists());
    });
}

#[test]
fn a_folder_that_is_not_there_is_empty() {
    with_adbd(async |adbd| {
        let adb = adbd.connect().await;
        assert_eq!(adb.list("/nothing/here").await.unwrap(), []);
        let root = adb.list("/").await.unwrap();
        let etc = root.iter().find(|entry| entry.name == "etc").unwrap();
        assert!(etc.stat.unwrap().is_folder());
        assert!(root.is_sorted_by_key(|entry| &entry.name));
    });
}

/// All that comes until the exit.
async fn rest(reader: &mut ShellReader) -> (String, String, Option<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match reader.next().await.unwrap() {
            ShellEvent::Stdout(bytes) => out.extend_from_slice(&bytes),
            ShellEvent::Stderr(bytes) => err.extend_from_slice(&bytes),
            ShellEvent::Exit(status) => {
                return (
                    String::from_utf8_lossy(&out).into_owned(),
                    String::from_utf8_lossy(&err).into_owned(),
                    status,
                );
            }
        }
    }
}

#[test]
fn a_command_takes_input_while_it_runs() {
    with_adbd(async |adbd| {
        let adb = adbd.connect().await;
        let command = "read a; echo got $a; cat | wc -c; echo oops >&2; exit 3";
        let (mut reader, writer) = adb.open_shell(command, &ShellMode::Raw).await.unwrap();
        writer.write(Bytes::from_static(b"word\n")).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), ShellEvent::Stdout(Bytes::from_static(b"got word\n")));
        writer.write(noise(300_000).into()).await.unwrap();
        writer.end().await.unwrap();
        let (out, err, status) = rest(&mut reader).await;
        assert_eq!((out.trim(), err.as_str(), status), ("300000", "oops\n", Some(3)));
    });
}

#[test]
fn a_terminal_has_its_size_and_is_told_another() {
    with_adbd(async |adbd| {
        let adb = adbd.connect().await;
        let size = WindowSize { rows: 33, columns: 99 };
        let mode = ShellMode::Terminal { name: "xterm-256color".to_owned(), size };
        let command = "read a; stty size; echo $TERM; read a; stty size";
        let (mut reader, writer) = adb.open_shell(command, &mode).await.unwrap();
        writer.write(Bytes::from_static(b"\n")).await.unwrap();
        let mut seen = String::new();
        while !seen.contains("xterm-256color") {
            match reader.next().await.unwrap() {
                ShellEvent::Stdout(bytes) => seen += &String::from_utf8_lossy(&bytes),
                other => panic!("{other:?} after {seen}"),
            }
        }
        assert!(seen.contains("33 99"), "{seen}");
        writer.resize(WindowSize { rows: 10, columns: 20 }).await.unwrap();
        writer.write(Bytes::from_static(b"\n")).await.unwrap();
        let (out, _, status) = rest(&mut reader).await;
        assert!(out.contains("10 20"), "{out}");
        assert_eq!(status, Some(0));
    });
}

#[test]
fn dropping_a_command_ends_it_on_the_phone() {
    let dir = tempfile::tempdir().unwrap();
    with_adbd(async move |adbd| {
        let adb = adbd.connect().await;
        let marker = dir.path().join("ended");
        let command =
            format!("trap 'echo > {}; exit' HUP PIPE TERM; while :; do echo x; sleep 0.02; done", marker.display());
        let (mut reader, writer) = adb.open_shell(&command, &ShellMode::Raw).await.unwrap();
        assert!(matches!(reader.next().await.unwrap(), ShellEvent::Stdout(_)));
        drop((reader, writer));
        let mut looks = 0;
        while adb.stat(&marker.display().to_string()).await.unwrap().is_none() {
            looks += 1;
            assert!(looks < 10_000, "the command goes on");
        }
    });
}

#[test]
fn a_tunnel_leads_from_the_phone_to_this_host() {
    with_adbd(async |adbd| {
        let adb = adbd.connect().await;
        let (tunnel, mut incoming) = adb.reverse("tcp:0", "tcp:9000").await.unwrap();
        assert_eq!(adb.reverses().await.unwrap(), std::slice::from_ref(&tunnel));
        let port: u16 = tunnel.device.strip_prefix("tcp:").unwrap().parse().unwrap();

        // An app on the phone connects; at this end is an echo that ends behind the first megabyte.
        let app = tokio::spawn(async move {
            let mut app = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let sent = noise(1 << 20);
            let (mut read, mut write) = app.split();
            let mut back = vec![0; sent.len()];
            let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
            written.unwrap();
            read.unwrap();
            assert!(back == sent, "the bytes differ");
        });
        let stream = incoming.next().await.unwrap();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        pump(stream, ours).await.unwrap();
        app.await.unwrap();
        echo.await.unwrap();

        adb.kill_reverse(&tunnel.device).await.unwrap();
        assert_eq!(adb.reverses().await.unwrap(), []);
        let again = adb.kill_reverse(&tunnel.device).await.unwrap_err();
        assert!(again.to_string().contains("not found"), "{again}");
    });
}

#[test]
fn a_stream_source_is_pushed_like_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let to = remote(&dir.path().join("file"));
    with_adbd(async move |adbd| {
        let adb = adbd.connect().await;
        let content = noise((2 << 20) + 99);
        let source = Source::stream(content.as_slice());
        adb.push(source, &to, &PushOptions::default()).await.unwrap();
        assert!(fs::read(&to.path).unwrap() == content, "the bytes differ");
        drop(dir);
    });
}
