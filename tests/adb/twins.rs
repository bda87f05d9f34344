//! Two phones with one serial, over a kill of the daemon.

use std::path::Path;
use std::time::Duration;

use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::check::{Daemon, until};
use firmware_tools::order::{Order, PhoneAct};
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;

/// Nothing here takes so long on an idle machine; a busy one may need some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const TWINS: &str = "[[phone]]\nname = 'A1'\nserial = 'TWIN'\n[[phone]]\nname = 'A2'\nserial = 'TWIN'\n";

/// Waits until exactly these phones are ready, by slot and id.
async fn ready(daemon: &Daemon, wanted: &[(&str, String)]) {
    let wanted: Vec<_> = wanted.iter().map(|(slot, id)| ((*slot).to_owned(), id.clone())).collect();
    let expected = format!("{wanted:?} ready");
    let seen = until(PATIENCE, &expected, async || {
        let phones: Vec<PhoneView> = daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
        let ready = phones.into_iter().filter(|phone| phone.state == PhoneState::Ready);
        let ready: Vec<_> = ready.map(|phone| (phone.slot.unwrap().to_string(), phone.id.to_string())).collect();
        if ready == wanted { Ok(()) } else { Err(format!("{ready:?}")) }
    });
    seen.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_is_alone_after_a_kill_is_called_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = RackFile::parse(TWINS, "twins.toml").unwrap();
    let rack = Rack::start(file, Addresses::AsWritten, &test_apks(), &dir.path().join("rack")).await.unwrap();
    let id = |phone: &str| format!("TWIN~{}", rack.imei(phone).unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let mut daemon = Daemon::start(program, &rack.config_file(), &state, &log).await.unwrap();
    ready(&daemon, &[("A1", id("A1")), ("A2", id("A2"))]).await;
    daemon.kill().await.unwrap();
    rack.obey(Order::Phone { name: "A1".to_owned(), act: PhoneAct::Unplug }).await.unwrap();
    daemon.start_again().await.unwrap();
    ready(&daemon, &[("A2", id("A2"))]).await;
    rack.obey(Order::Phone { name: "A1".to_owned(), act: PhoneAct::Plug }).await.unwrap();
    ready(&daemon, &[("A1", id("A1")), ("A2", id("A2"))]).await;
    daemon.stop().await;
}
