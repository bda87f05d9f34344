//! The page with a made-up rack behind it, to look at while it is changed: `cargo run --example page`, or with `empty`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a tool for the bench")]

#[path = "../tests/cli/rack.rs"]
mod rack;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farmhand::clock::UnixMillis;
use farmhand::rack::Snapshot;
use farmhand::rack::snapshot::{DaemonView, PhoneState, SwitchedOff};
use farmhand::store::{StateDir, Store};
use farmhand::web::{Access, Desk, bind_tcp, serve_tcp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let empty = std::env::args().any(|argument| argument == "empty");
    let look = if empty { nothing } else { rack::rack };
    let (snapshots, watched) = watch::channel(Arc::new(look(now())));
    let (requests, _model) = mpsc::channel(1);
    let listener = bind_tcp("127.0.0.1:8421".parse().unwrap()).await.expect("nothing else is there");
    println!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for step in 1_u64.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut rack = look(now());
            rack.revision += step;
            if let (Some(phone), 5..) = (rack.phones.first_mut(), step % 10) {
                phone.state = PhoneState::Recovering;
                phone.why = "the probe was not answered within 5 s".to_owned();
            }
            if snapshots.send(Arc::new(rack)).is_err() {
                break;
            }
        }
    });
    let files = tempfile::tempdir().unwrap();
    let store = Store::open(&StateDir::lock(files.path()).unwrap()).unwrap();
    let desk = Desk {
        snapshots: watched,
        requests,
        policy: watch::channel(Arc::default()).1,
        store,
        access: Access::closed(),
    };
    serve_tcp(listener, desk, CancellationToken::new()).await;
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(since.as_millis()).unwrap())
}

fn nothing(now: UnixMillis) -> Snapshot {
    let off = |what: &str, how: &str| SwitchedOff { what: what.to_owned(), how: how.to_owned() };
    Snapshot {
        at: now,
        daemon: DaemonView { rack: "rack-1".to_owned(), version: "0.1.0".to_owned(), started: now },
        switched_off: vec![
            off("installing the agent", "[agent] package = \"org.example.agent\", apk = \"agent.apk\""),
            off("lines to a central server", "[central] server = \"centre.example:9200\""),
            off("health on MQTT", "[mqtt] broker = \"127.0.0.1:1883\""),
        ],
        ..Snapshot::default()
    }
}
