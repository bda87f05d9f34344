//! Stories of downloads, against a server that answers as it is told.
#![cfg(feature = "daemon")]

use std::path::Path;

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::ApkSource;
use super::fetch::{APK_LEN_MAX, FetchError, Fetcher};

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
    assert_eq!(file, dir.path().join(format!("{sha256}.apk")));
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
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
    assert_eq!(std::fs::read(file).unwrap(), b"hello");
    let error = fetcher.fetch(&ApkSource::File("/no/such.apk".into()), None).await.unwrap_err();
    assert!(error.to_string().starts_with("/no/such.apk: No such file"), "{error}");
}

#[tokio::test]
async fn a_start_removes_what_a_crash_left_and_what_no_rollout_needs() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["x.part", "aa.apk", "bb.apk"] {
        std::fs::write(dir.path().join(name), b"x").unwrap();
    }
    fetcher(dir.path()).keep_only(&["bb".to_owned()].into()).unwrap();
    assert_eq!(files(dir.path()), ["bb.apk"]);
}
