//! Takes the connections of a listener, so many at once at most: the next one waits in the kernel's queue.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

/// Between two tries when the system gives no more connections.
const RETRY: Duration = Duration::from_millis(100);

/// Has `carry` see to each connection that `accept` gives, as many at once as there are `permits`. `whose` is told when none can be
/// taken: "adb client". Whoever drops it ends that; `connections` are what is under way.
pub(crate) async fn accept_all<T, A, C>(
    whose: &str,
    permits: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
    accept: impl Fn() -> A,
    carry: impl Fn(T) -> C,
) -> Infallible
where
    A: Future<Output = io::Result<T>>,
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, accept().await)
        };
        tokio::select! {
            (permit, accepted) = next => match accepted {
                Ok(connection) => {
                    let carried = carry(connection);
                    connections.spawn(async move {
                        let _permit = permit;
                        carried.await;
                    });
                }
                Err(error) => {
                    warn!("{whose}: a connection could not be taken: {error}");
                    sleep(RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
