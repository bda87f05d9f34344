//! Google's own adbd, started for one test, in a network namespace of its own: it listens on all interfaces and asks nobody.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::tcp::TcpTransport;
use firmware_tools::ports;
use nix::sched::{CloneFlags, unshare};

/// Fetched once; prints where it is.
pub(crate) static START_ADBD: LazyLock<PathBuf> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/fetch-adbd.sh");
    let output = Command::new(script).output().expect("the script can be run");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().into()
});

/// The tests' key: checked in, since making one takes seconds without optimisation.
pub(crate) static KEYS: LazyLock<Arc<KeyRing>> = LazyLock::new(|| {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
    Arc::new(KeyRing::load_or_create(Path::new(dir)).expect("a key"))
});

/// From its start until it listens, on a machine that is busy with other tests.
pub(crate) const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// An adbd, killed when dropped.
pub(crate) struct Adbd {
    child: Child,
    address: SocketAddr,
}

impl Drop for Adbd {
    fn drop(&mut self) {
        self.child.kill().expect("adbd runs");
        self.child.wait().expect("adbd ends");
    }
}

impl Adbd {
    fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5555));
        // It ends with this thread, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(START_ADBD.as_path())
            .env("ADBD_PORT", address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("adbd starts");
        let stderr = child.stderr.take().expect("its errors are read");
        let adbd = Self { child, address };
        ports::said(stderr, "adbd listening on tcp", LISTENS_WITHIN).expect("adbd says where it listens");
        adbd
    }

    /// Connects, as soon as it listens.
    pub(crate) async fn connect(&self) -> Adb {
        ports::listener(self.address.port(), LISTENS_WITHIN).await.expect("adbd listens");
        let transport = TcpTransport::connect(self.address).await.expect("adbd listens");
        connect(transport, KEYS.clone(), ConnectOptions::default()).await.expect("adbd lets us in")
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("adbd runs");
    }
}

/// Runs a test with an adbd of its own, on a thread whose network is nothing but a loopback interface of its own.
pub(crate) fn with_adbd<F: Future<Output = ()>>(test: impl FnOnce(Adbd) -> F + Send + 'static) {
    // Fetching it needs the machine's own network.
    LazyLock::force(&START_ADBD);
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made: run as root");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is installed");
        assert!(up.success(), "the loopback interface is up");
        let adbd = Adbd::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test(adbd)).await.expect("the test ends in a minute");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
