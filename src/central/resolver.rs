//! Where the central server is: one lookup of its name for all lines.
//!
//! The system's resolver (`getaddrinfo`) blocks its thread for as long as it likes, and cannot be cancelled. So there is at most one
//! lookup at a time, on a thread of its own, whoever asks meanwhile waits for the same one, and nobody waits longer than
//! [`LOOKUP_MAX`].
//!
//! Invariant: however many lines ask, at most one thread looks up (`a_whole_rack_that_connects_looks_up_once`,
//! `a_lookup_that_hangs_is_left_and_no_other_is_begun`).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// The longest that a line waits for a lookup: the system's resolver itself gives up a server after 5 s.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// How long an answer counts without a new lookup: lines that connect one after the other ask once, and a server that moved is
/// found within a minute.
const FRESH: Duration = Duration::from_secs(60);
/// How long an answer may still serve where a lookup fails: a name server that is down must not take the lines along.
const USABLE: Duration = Duration::from_secs(60 * 60);

/// The name of the central server, and what is known of its addresses. Clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

/// What the system does with a name and a port.
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Shared {
    server: String,
    lookup: Box<Lookup>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    answer: Option<(Instant, Vec<SocketAddr>)>,
    running: Option<watch::Receiver<Option<Found>>>,
}

/// What a lookup found, or what the system said.
type Found = Result<Vec<SocketAddr>, String>;

impl Resolver {
    /// Addresses of `server`, which is `host:port`. Nothing is looked up yet.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self::with(server.into(), |server| Ok(server.to_socket_addrs()?.collect()))
    }

    fn with(server: String, lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { server, lookup: Box::new(lookup), known: Mutex::default() }) }
    }

    /// `host:port`, as the owner wrote it.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// The server's addresses, from an answer that is at most a minute old; one of up to an hour serves where the lookup fails.
    ///
    /// # Errors
    /// What the system said of the name, or that it said nothing within 5 s.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.shared.server.parse() {
            return Ok(vec![address]);
        }
        if let Some(fresh) = self.shared.answer(FRESH) {
            return Ok(fresh);
        }
        let mut outcome = self.lookup()?;
        let why = match timeout(LOOKUP_MAX, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => match &*found {
                Some(Ok(addresses)) => return Ok(addresses.clone()),
                Some(Err(why)) => why.clone(),
                None => "failed to lookup address information".to_owned(),
            },
            Ok(Err(_)) => "failed to lookup address information: its thread has panicked".to_owned(),
            Err(_) => format!("failed to lookup address information: no answer in {} s", LOOKUP_MAX.as_secs()),
        };
        self.shared.answer(USABLE).ok_or_else(|| io::Error::other(why))
    }

    /// The lookup that is under way, or a new one.
    fn lookup(&self) -> io::Result<watch::Receiver<Option<Found>>> {
        let mut known = self.shared.known();
        // A lookup whose thread has ended without a word is none any more.
        if let Some(running) = known.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Ok(running.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let shared = Arc::clone(&self.shared);
        let look_up = move || {
            let found = (shared.lookup)(&shared.server).map_err(|why| why.to_string());
            let mut known = shared.known();
            if let Ok(addresses) = &found {
                known.answer = Some((Instant::now(), addresses.clone()));
            }
            known.running = None;
            sender.send_replace(Some(found));
        };
        std::thread::Builder::new().name("resolver".to_owned()).spawn(look_up)?;
        known.running = Some(outcome.clone());
        Ok(outcome)
    }
}

impl Shared {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, within: Duration) -> Option<Vec<SocketAddr>> {
        let known = self.known();
        let (at, addresses) = known.answer.as_ref()?;
        (at.elapsed() <= within).then(|| addresses.clone())
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Resolver").field(&self.shared.server).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn address() -> SocketAddr {
        "192.0.2.7:9200".parse().unwrap()
    }

    /// A resolver whose lookups end when the sender says how, with the count of those that were begun.
    fn scripted() -> (Resolver, mpsc::Sender<io::Result<Vec<SocketAddr>>>, Arc<AtomicUsize>) {
        let (script, answers) = mpsc::channel();
        let (answers, begun) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let lookup = move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            answers.lock().unwrap().recv().unwrap_or_else(|_| Err(io::Error::other("the test is over")))
        };
        (Resolver::with("centre.example:9200".to_owned(), lookup), script, begun)
    }

    #[tokio::test]
    async fn a_whole_rack_that_connects_looks_up_once() {
        let (resolver, script, begun) = scripted();
        let lines = (0..64).map(|_| resolver.addresses());
        let answer = async { script.send(Ok(vec![address()])).unwrap() };
        let (found, ()) = tokio::join!(futures_util::future::join_all(lines), answer);
        assert!(found.into_iter().all(|found| found.unwrap() == [address()]));
        assert_eq!(resolver.addresses().await.unwrap(), [address()]);
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_is_left_and_no_other_is_begun() {
        let (resolver, script, begun) = scripted();
        for _ in 0..3 {
            let why = resolver.addresses().await.unwrap_err();
            let told = crate::reason::connecting(resolver.server(), &why);
            assert_eq!(told, "no address is known for the name in centre.example:9200");
        }
        // The one that hung has its answer at last; without it, the count could only be too low.
        tokio::time::resume();
        script.send(Ok(vec![address()])).unwrap();
        assert_eq!(resolver.addresses().await.unwrap(), [address()]);
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_grows_old_and_serves_for_an_hour_where_lookups_fail() {
        let (resolver, script, begun) = scripted();
        script.send(Ok(vec![address()])).unwrap();
        resolver.addresses().await.unwrap();
        for (after, usable) in [(61, true), (3000, true), (600, false)] {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(after)).await;
            tokio::time::resume();
            script.send(Err(io::Error::other("failed to lookup address information: try again"))).unwrap();
            assert_eq!(resolver.addresses().await.is_ok(), usable, "after {after} s more");
        }
        assert_eq!(begun.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn an_address_needs_no_lookup_and_the_system_knows_this_host() {
        let found = Resolver::new("[::1]:9200").addresses().await.unwrap();
        assert_eq!(found, ["[::1]:9200".parse().unwrap()]);
        let found = Resolver::new("localhost:9200").addresses().await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 9200), "{found:?}");
    }
}
