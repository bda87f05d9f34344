//! A real desk on a real socket with a made-up model behind it, and the real program in front of it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use farmhand::clock::UnixMillis;
use farmhand::rack::Snapshot;
use farmhand::rack::request::{Done, Refusal, Request};
use farmhand::store::promise::{AuditRecord, Promise};
use farmhand::store::{StateDir, Store};
use farmhand::web::{Access, Desk, bind_unix, serve_unix};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The desk and the state directory in which its socket is.
pub(crate) struct Fixture {
    pub(crate) state: TempDir,
    runtime: tokio::runtime::Runtime,
    store: Store,
    _files: TempDir,
    cancel: CancellationToken,
    _snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Fixture {
    /// A desk that shows `rack` and answers each order by `model`.
    pub(crate) fn start(rack: Snapshot, model: impl Fn(Request) -> Result<Done, Refusal> + Send + 'static) -> Self {
        let state = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let cancel = CancellationToken::new();
        let (snapshots, watched) = watch::channel(Arc::new(rack));
        let (requests, mut orders) = mpsc::channel(4);
        let files = tempfile::tempdir().unwrap();
        let store = Store::open(&StateDir::lock(files.path()).unwrap()).unwrap();
        let desk = Desk {
            snapshots: watched,
            requests,
            policy: watch::channel(Arc::default()).1,
            store: store.clone(),
            access: Access::closed(),
        };
        let path = state.path().join("farmhand.sock");
        let listener = runtime.block_on(bind_unix(&path)).unwrap();
        runtime.spawn(serve_unix(listener, desk, cancel.clone()));
        runtime.spawn(async move {
            while let Some((request, answer)) = orders.recv().await {
                let _ = answer.send(model(request));
            }
        });
        Self { state, runtime, cancel, store, _files: files, _snapshots: snapshots }
    }

    /// A desk of the rack with a bit of everything, whose model takes no orders.
    pub(crate) fn of_rack() -> Self {
        Self::start(crate::rack::rack(now()), |request| {
            Err(Refusal { code: "test.refused".to_owned(), what: format!("{request:?} was not expected"), help: None })
        })
    }

    /// Writes a line of audit.
    pub(crate) fn audit(&self, record: AuditRecord) {
        self.runtime.block_on(self.store.commit(vec![Promise::Audit(record)])).unwrap();
    }

    /// What the program does with `arguments`.
    pub(crate) fn farmhand(&self, arguments: &[&str]) -> Said {
        farmhand(self.state.path(), arguments)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.cancel.cancel();
        // What is left of the runtime is dropped with the fixture.
        let _entered = self.runtime.enter();
    }
}

pub(crate) fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(now.as_millis()).unwrap())
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Said {
    /// All of it as one text, for snapshots: paths and times of this run are replaced.
    pub(crate) fn redacted(&self, state: &Path) -> String {
        let text = format!("exit {}\n--- out\n{}--- err\n{}", self.code, self.out, self.err);
        text.replace(&state.display().to_string(), "[STATE]")
    }

    /// Its standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the program with the state directory `state`.
pub(crate) fn farmhand(state: &Path, arguments: &[&str]) -> Said {
    farmhand_with(state, &[], arguments)
}

/// As [`farmhand`], with more of an environment.
pub(crate) fn farmhand_with(state: &Path, environment: &[(&str, &Path)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
    command.env_clear().env("LANG", "C.UTF-8").env("COLUMNS", "100").env("FARMHAND_STATE", state);
    command.envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.args(arguments).current_dir(state).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(stdout), err: text(stderr), code: status.code().unwrap_or(-1) }
}
