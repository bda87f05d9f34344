//! Which phones are online: their actors say so, the servers for people's tools ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::adb::driver::Adb;
use crate::adb::turns::Bus;
use crate::rack::ids::Endpoint;

/// The connections of all phones that are online. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OnlinePhones {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seats: Mutex<BTreeMap<Endpoint, (u64, Adb)>>,
    /// The number of the newest seat, told at each change of the seats.
    last: watch::Sender<u64>,
    /// The number of the newest piece of work.
    works: AtomicU64,
    /// The host's USB buses by number, as many as have had a phone.
    buses: Mutex<BTreeMap<u8, Bus>>,
}

impl OnlinePhones {
    /// A new connection of the phone at an endpoint, which shares the endpoint's bus with its other phones. TCP has none.
    #[must_use]
    pub fn on_its_bus(&self, endpoint: &Endpoint, adb: Adb) -> Adb {
        match endpoint {
            Endpoint::Usb(path) => {
                // As with the seats.
                let mut buses = self.shared.buses.lock().unwrap_or_else(PoisonError::into_inner);
                adb.on_bus(buses.entry(path.bus()).or_default())
            }
            Endpoint::Tcp(_) => adb,
        }
    }

    /// Says that a phone is online, until the seat is dropped.
    #[must_use]
    pub fn sit(&self, endpoint: Endpoint, adb: Adb) -> Seat {
        let mut number = 0;
        self.shared.last.send_modify(|last| {
            *last += 1;
            number = *last;
            self.shared.seats().insert(endpoint.clone(), (number, adb));
        });
        Seat { shared: Arc::clone(&self.shared), endpoint, number }
    }

    /// The connection of the phone at an endpoint, if it is online.
    #[must_use]
    pub fn at(&self, endpoint: &Endpoint) -> Option<Adb> {
        self.seat_at(endpoint).map(|(_, adb)| adb)
    }

    /// As [`Self::at`], with the number of the seat: no two connections have the same.
    #[must_use]
    pub fn seat_at(&self, endpoint: &Endpoint) -> Option<(u64, Adb)> {
        self.shared.seats().get(endpoint).cloned()
    }

    /// The number of a new piece of work on a phone, for its lease: from 1 on, each only once.
    #[must_use]
    pub fn number_work(&self) -> u64 {
        self.shared.works.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes whenever somebody sits down or leaves.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.last.subscribe()
    }
}

impl Shared {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<Endpoint, (u64, Adb)>> {
        // Nothing in here panics half-way through a change.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A phone's place among those that are online: its connection ends with it, whoever still has work on it. An actor that took another
/// one's place is not unseated by its end.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.shared.seats();
        if seats.get(&self.endpoint).is_some_and(|(number, _)| *number == self.number)
            && let Some((_, adb)) = seats.remove(&self.endpoint)
        {
            adb.close();
            drop(seats);
            self.shared.last.send_modify(|_| {});
        }
    }
}
