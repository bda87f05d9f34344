//! Stories of downloads, against a server that answers as it is told.
#![cfg(feature = "daemon")]

use std::path::Path;

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::ApkSource;
use super::apk::{Expectation, check_stored};
use super::fetch::{APK_LEN_MAX, FetchError, Fetcher};
use crate::rack::ids::PackageName;

/// Serves one answer to each connection, then closes it; returns the address of `agent.apk` on it.
async fn serve(answers: Vec<Vec<u8>>) -> ApkSource {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/agent.apk", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(connection.read(&mut request).await.unwrap() > 0);
            connection.write_all(&answer).await.unwrap();
        }
    });
    ApkSource::Url(url)
}

/// Serves one answer to each connection as [`serve`] does, and returns what was asked, too.
async fn serve_and_listen(answers: Vec<Vec<u8>>) -> (ApkSource, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/agent.apk", listener.local_addr().unwrap());
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let len = connection.read(&mut request).await.unwrap();
            asked.send(String::from_utf8_lossy(&request[..len]).to_lowercase()).unwrap();
            connection.write_all(&answer).await.unwrap();
        }
    });
    (ApkSource::Url(url), requests)
}

/// An answer with these lines of head.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {}\r\nConnection: close\r\n\r\n", head.replace('\n', "\r\n")).as_bytes(), body].concat()
}

const FIRST_HALF: &str = "200 OK\nContent-Length: 10\nETag: \"one\"";

fn ok(length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

fn fetcher(dir: &Path) -> Fetcher {
    Fetcher::new(dir.to_owned(), Vec::new()).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_download_is_kept_under_the_name_of_its_content_and_not_fetched_twice() {
    let dir = tempfile::tempdir().unwrap();
    let source = serve(vec![ok(5, b"hello")]).await;
    let sha256 = hex(&Sha256::digest(b"hello"));
    let file = fetcher(dir.path()).fetch(&source, None).await.unwrap();
    assert_eq!((&file.path, file.size), (&dir.path().join(format!("{sha256}.apk")), 5));
    assert_eq!(std::fs::read(&file.path).unwrap(), b"hello");
    let again = fetcher(dir.path()).fetch(&source, Some(&sha256)).await.unwrap();
    assert_eq!(again, file, "the server would not answer a second time");
    assert_eq!(files(dir.path()), [format!("{sha256}.apk")]);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_refused_with_what_came() {
    let dir = tempfile::tempdir().unwrap();
    let source = serve(vec![ok(10, b"hello")]).await;
    let error = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{source} was cut short: 5 of 10 bytes came"));
    assert_eq!(files(dir.path()), [""; 0], "nothing is left behind");
}

#[tokio::test]
async fn an_answer_that_is_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let source = serve(vec![gone]).await;
    let error = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{source} answered 404 Not Found"));
    let closed = serve(vec![]).await;
    let error = fetcher(dir.path()).fetch(&closed, None).await.unwrap_err();
    assert!(matches!(error, FetchError::Network { .. }), "{error}");
}

#[tokio::test]
async fn what_lets_its_bearer_fetch_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let ApkSource::Url(url) = serve(vec![b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()]).await else {
        unreachable!("a server has an address")
    };
    let secret = url.replace("http://", "http://rack:hunter2@") + "?Signature=hunter2#hunter2";
    let source = ApkSource::Url(secret.clone());
    assert_eq!(source.to_string(), url);
    let refused = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{url} answered 403 Forbidden"));
    let gone = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert!(!gone.to_string().contains("hunter2"), "{gone}");
    let other = fetcher(dir.path()).fetch(&ApkSource::Url(secret.replace("http:", "ftp:")), None).await.unwrap_err();
    assert!(!other.to_string().contains("hunter2"), "{other}");
}

#[tokio::test]
async fn a_file_above_the_limit_is_refused_by_its_length_alone() {
    let dir = tempfile::tempdir().unwrap();
    let length = usize::try_from(APK_LEN_MAX + 1).unwrap();
    let source = serve(vec![ok(length, b"x")]).await;
    let error = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn only_the_owners_sources_are_asked_also_over_a_redirect() {
    let dir = tempfile::tempdir().unwrap();
    let here = Fetcher::new(dir.path().to_owned(), vec!["127.0.0.1".into()]).unwrap();
    let other = ApkSource::Url("http://apks.example/agent.apk".into());
    let error = here.fetch(&other, None).await.unwrap_err();
    assert_eq!(error.to_string(), "apks.example is not among [rollout] sources (127.0.0.1)");
    let away = b"HTTP/1.1 302 Found\r\nLocation: http://apks.example/agent.apk\r\nContent-Length: 0\r\n\r\n".to_vec();
    let error = here.fetch(&serve(vec![away]).await, None).await.unwrap_err();
    assert!(error.to_string().contains("apks.example is not among [rollout] sources"), "{error}");
}

#[tokio::test]
async fn what_is_no_http_address_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["file:///etc/passwd", "ftp://host/agent.apk", "agent.apk", ""] {
        let error = fetcher(dir.path()).fetch(&ApkSource::Url(url.into()), None).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`{url}` is no http or https address"));
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = ApkSource::Url(format!("http://{}/agent.apk", listener.local_addr().unwrap()));
    let fetcher = fetcher(dir.path());
    let fetching = tokio::spawn(async move { fetcher.fetch(&source, None).await });
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.write_all(&ok(10, b"hello")).await.unwrap();
    let mut request = [0; 4096];
    assert!(connection.read(&mut request).await.unwrap() > 0);
    tokio::time::pause();
    let error = fetching.await.unwrap().unwrap_err();
    assert!(error.to_string().ends_with("sent nothing for 30 s"), "{error}");
    assert_eq!(files(dir.path()), [""; 0]);
}

#[tokio::test]
async fn a_local_file_is_copied_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let from = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(from.path(), b"hello").unwrap();
    let fetcher = fetcher(dir.path());
    let file = fetcher.fetch(&ApkSource::File(from.path().to_owned()), None).await.unwrap();
    assert_eq!(std::fs::read(file.path).unwrap(), b"hello");
    let error = fetcher.fetch(&ApkSource::File("/no/such.apk".into()), None).await.unwrap_err();
    assert!(error.to_string().starts_with("/no/such.apk: No such file"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let dir = tempfile::tempdir().unwrap();
    let rest = answer("206 Partial Content\nContent-Length: 5\nContent-Range: bytes 5-9/10", b"world");
    let (source, mut requests) = serve_and_listen(vec![answer(FIRST_HALF, b"hello"), rest]).await;
    let file = fetcher(dir.path()).fetch(&source, None).await.unwrap();
    assert_eq!(std::fs::read(&file.path).unwrap(), b"helloworld");
    assert_eq!(file.sha256, hex(&Sha256::digest(b"helloworld")));
    assert!(!requests.recv().await.unwrap().contains("range"));
    let second = requests.recv().await.unwrap();
    assert!(second.contains("range: bytes=5-\r\n") && second.contains("if-range: \"one\"\r\n"), "{second}");
}

#[tokio::test]
async fn a_file_that_changed_in_between_is_fetched_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let other = answer("200 OK\nContent-Length: 7\nETag: \"two\"", b"goodbye");
    let (source, _requests) = serve_and_listen(vec![answer(FIRST_HALF, b"hello"), other]).await;
    let file = fetcher(dir.path()).fetch(&source, None).await.unwrap();
    assert_eq!(std::fs::read(&file.path).unwrap(), b"goodbye");
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for range in ["bytes 0-4/10", "bytes 5-9/11", "bytes 5-8/10", "bytes 5-9/*", "none"] {
        let lie = answer(&format!("206 Partial Content\nContent-Length: 5\nContent-Range: {range}"), b"world");
        let (source, _requests) = serve_and_listen(vec![answer(FIRST_HALF, b"hello"), lie]).await;
        let error = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{source} was asked for the bytes from 5 on, and sent {range}"));
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let dir = tempfile::tempdir().unwrap();
    let round = answer("302 Found\nLocation: /agent.apk\nContent-Length: 0", b"");
    let (source, mut requests) = serve_and_listen(vec![round; 20]).await;
    let error = fetcher(dir.path()).fetch(&source, None).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
    let mut asked = 0;
    while requests.try_recv().is_ok() {
        asked += 1;
    }
    assert_eq!(asked, 6);
}

#[tokio::test]
async fn a_server_that_trickles_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = ApkSource::Url(format!("http://{}/agent.apk", listener.local_addr().unwrap()));
    let fetcher = fetcher(dir.path());
    let fetching = tokio::spawn(async move { fetcher.fetch(&source, None).await });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = [0; 4096];
    assert!(connection.read(&mut request).await.unwrap() > 0);
    connection.write_all(&ok(1000, b"")).await.unwrap();
    tokio::time::pause();
    while !fetching.is_finished() && connection.write_all(b"x").await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    }
    let error = fetching.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("trickles: ") && error.ends_with(" bytes in 60 s"), "{error}");
    assert_eq!(files(dir.path()), [""; 0]);
}

#[tokio::test]
async fn who_asks_for_what_is_on_its_way_gets_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    // A second request would find nobody.
    let (source, _requests) = serve_and_listen(vec![ok(5, b"hello")]).await;
    let fetcher = fetcher(dir.path());
    let (one, other) = tokio::join!(fetcher.fetch(&source, None), fetcher.fetch(&source, None));
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn a_length_that_is_too_short_shows_as_an_archive_without_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let apk = std::fs::read("firmware-tools/apks/agent-2.apk").unwrap();
    let source = serve(vec![ok(4000, &apk)]).await;
    let stored = fetcher(dir.path()).fetch(&source, None).await.unwrap();
    let expected = Expectation {
        package: PackageName::new("org.example.agent"),
        signers: Vec::new(),
        version_code: None,
        version_name: None,
        installed: None,
    };
    let refusal = check_stored(&stored, &expected).unwrap_err().to_string();
    assert!(refusal.ends_with("so it was cut short or is another kind of file"), "{refusal}");
}

/// A variable of the environment belongs to the whole process: a process of its own fetches.
#[tokio::test]
async fn the_proxy_of_the_environment_is_asked() {
    const NAME: &str = "agent::fetch_tests::the_proxy_of_the_environment_is_asked";
    let elsewhere = ApkSource::Url("http://apks.example/agent.apk".into());
    if std::env::var_os("FARMHAND_TEST_FETCHES").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let file = fetcher(dir.path()).fetch(&elsewhere, None).await.unwrap();
        assert_eq!(std::fs::read(file.path).unwrap(), b"hello");
        return;
    }
    let (ApkSource::Url(proxy), mut requests) = serve_and_listen(vec![ok(5, b"hello")]).await else { unreachable!() };
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", NAME]).env("FARMHAND_TEST_FETCHES", "1").env("HTTP_PROXY", &proxy).env("http_proxy", &proxy);
    assert!(child.output().await.unwrap().status.success());
    assert!(requests.recv().await.unwrap().starts_with("get http://apks.example/agent.apk http/1.1"));
}
