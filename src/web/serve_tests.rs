use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::patience::WRITE_DEADLINE;
use super::*;
use crate::rack::Snapshot;
use crate::rack::snapshot::SwitchedOff;

/// Far more than any socket buffers.
const LONG: usize = 24 << 20;

fn service_of_a_long_snapshot() -> (TowerToHyperService<axum::Router>, impl Sized) {
    let rack = Snapshot {
        switched_off: vec![SwitchedOff { what: "x".repeat(LONG), how: String::new() }],
        ..Snapshot::default()
    };
    let (snapshots, watched) = watch::channel(Arc::new(rack));
    let (requests, orders) = mpsc::channel(1);
    let router = router(
        Desk {
            snapshots: watched,
            requests,
            policy: watch::channel(Arc::default()).1,
            store: super::super::tests::store(),
            access: super::super::Access::closed(),
        },
        Door::Local,
        CancellationToken::new(),
    );
    (TowerToHyperService::new(router), (snapshots, orders))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_dropped() {
    let (service, _model) = service_of_a_long_snapshot();
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    peer.write_all(b"GET /api/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (io, _) = listener.accept().await.unwrap();
    let began = Instant::now();
    let conversation = converse(io, service, CancellationToken::new());
    timeout(WRITE_DEADLINE * 2, conversation).await.expect("the connection is given up");
    assert!(began.elapsed() >= WRITE_DEADLINE, "not before its time");
    let mut got = Vec::new();
    let end = peer.read_to_end(&mut got).await;
    assert!(end.is_err() || got.len() < LONG, "the answer was cut: {} bytes", got.len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_served_to_the_end() {
    let (service, _model) = service_of_a_long_snapshot();
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    tokio::spawn(converse(io, service, CancellationToken::new()));
    peer.write_all(b"GET /api/snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut read, mut chunk) = (0, vec![0; 1 << 20]);
    loop {
        // The virtual clock moves on while nothing is read.
        tokio::time::sleep(WRITE_DEADLINE / 2).await;
        match peer.read(&mut chunk).await.unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert!(read > LONG, "{read} bytes");
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_body_does_not_come_is_not_waited_for_for_ever() {
    let (service, _model) = service_of_a_long_snapshot();
    let (mut peer, io) = tokio::io::duplex(4096);
    tokio::spawn(converse(io, service, CancellationToken::new()));
    let head =
        "POST /api/requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n";
    peer.write_all(format!("{head}Connection: close\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(HEAD_DEADLINE * 10, peer.read_to_string(&mut answer)).await.expect("an answer comes").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request.slow"), "{answer}");
}
