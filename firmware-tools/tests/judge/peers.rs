//! Google's adbd and a virtual phone, side by side on a loopback interface that nobody else has.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firmware_tools::phone::{AdbGeneration, PhoneSpec, VirtualPhone};
use firmware_tools::ports;
use nix::sched::{CloneFlags, unshare};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// From its start until it listens, on a machine that is busy with other tests.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// An adbd, killed when dropped, with all that it started.
struct Adbd(Child);

impl Drop for Adbd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `judge` with both addresses, on a thread in a network namespace of its own.
pub(crate) fn with_both<T: Send>(judge: impl AsyncFnOnce(SocketAddr, SocketAddr) -> T + Send) -> T {
    // Fetching needs the machine's own network.
    let adbd = fetched();
    std::thread::scope(|scope| {
        let judged = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made: run as root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is installed");
            assert!(up.success(), "the loopback interface is up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5555));
                let _adbd = start(&adbd, address);
                // Without a connection: adbd 34 may end one that begins while the end of another is still being worked off.
                ports::listener(address.port(), LISTENS_WITHIN).await.expect("adbd listens");
                let phone = phone();
                let _port = tokio::spawn(echo(TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)).await.unwrap()));
                judge(address, phone.address()).await
            })
        });
        match judged.join() {
            Ok(judged) => judged,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A virtual phone as modern as adbd 34.
pub(crate) fn phone() -> VirtualPhone {
    VirtualPhone::start(PhoneSpec { adb: AdbGeneration::Windowed, ..PhoneSpec::new("P1", "S1") }).unwrap()
}

/// A port of both phones: who connects to it is greeted, and hears what he says.
pub(crate) const ECHO_PORT: u16 = 7300;

async fn echo(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = socket.write_all(b"hello ").await;
            let (mut reading, mut writing) = socket.split();
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        });
    }
}

/// The command that starts Google's adbd.
fn fetched() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fetch-adbd.sh");
    let output = Command::new(&script).output().expect("the script can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn start(adbd: &Path, address: SocketAddr) -> Adbd {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/adbd.sh");
    // It ends with this thread, however that ends, and all that it started with it.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .arg(script)
        .arg(adbd);
    command.env("ADBD_PORT", address.port().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut adbd = Adbd(command.spawn().expect("setpriv and unshare are installed"));
    let stderr = adbd.0.stderr.take().expect("its errors are read");
    ports::said(stderr, "adbd listening on tcp", LISTENS_WITHIN).expect("adbd says where it listens");
    adbd
}
