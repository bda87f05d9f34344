//! The host's own health: processor, memory, room on the disk of the state directory, the hottest sensor.
//!
//! A source of the model: [`spawn`] measures each [`SAMPLE_EVERY`] and sends what it read. What the host can't measure is
//! absent, never zero.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use sysinfo::{Components, CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, RefreshKind, System};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::rack::snapshot::HostHealth;

/// Between two readings: a host's health changes slowly, and each reading opens a dozen files.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Between the first reading, which can't tell of the processor yet, and the second.
const SECOND_SAMPLE_AFTER: Duration = Duration::from_secs(1);

/// Sensors that are not connected report figures beyond these.
const CREDIBLE_CELSIUS: std::ops::RangeInclusive<f32> = -40.0..=150.0;

/// Starts measuring on a thread of its own; the first reading comes at once, the processor's share with the second, 1 s later. A
/// reading that finds `readings` full is dropped: the next one is newer anyway.
///
/// The thread ends once `cancel` is cancelled or `readings` has no receiver any more. A disk that does not answer holds up this
/// thread and nobody else, not even the end of the runtime.
///
/// # Errors
/// If the thread can't be started.
pub fn spawn(
    state_dir: PathBuf,
    readings: mpsc::Sender<HostHealth>,
    cancel: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let mut sampler: Option<Sampler> = None;
    let sample = move || match &mut sampler {
        Some(sampler) => Ok(sampler.sample(&state_dir)),
        None => Sampler::new().map(|new| sampler.insert(new).sample(&state_dir)),
    };
    spawn_with(sample, readings, cancel)
}

fn spawn_with(
    mut sample: impl FnMut() -> Result<HostHealth, sysinfo::Error> + Send + 'static,
    readings: mpsc::Sender<HostHealth>,
    cancel: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    // Only waits: what blocks, blocks between them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let measure = move || {
        let mut pause = SECOND_SAMPLE_AFTER.max(MINIMUM_CPU_UPDATE_INTERVAL);
        while !cancel.is_cancelled() && !readings.is_closed() {
            match sample() {
                Ok(health) => drop(readings.try_send(health)),
                Err(why) => return warn!("the host's health is not read: {why}"),
            }
            runtime.block_on(async {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = readings.closed() => {}
                    () = tokio::time::sleep(std::mem::replace(&mut pause, SAMPLE_EVERY)) => {}
                }
            });
        }
    };
    std::thread::Builder::new().name("host".to_owned()).spawn(measure)
}

/// What is kept between readings: the processor's share is a difference, and sensors stay open.
struct Sampler {
    system: System,
    sensors: Option<Components>,
    samples: u32,
}

impl Sampler {
    fn new() -> Result<Self, sysinfo::Error> {
        // Never everything: refreshing all leaks descriptors.
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing().with_usage())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        )?;
        Ok(Self { system, sensors: Components::new_with_refreshed_list().ok(), samples: 0 })
    }

    fn sample(&mut self, state_dir: &Path) -> HostHealth {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.system.refresh_cpu_usage();
        self.samples = self.samples.saturating_add(1);
        let disk = nix::sys::statvfs::statvfs(state_dir).ok();
        HostHealth {
            at: SystemTime::now().into(),
            cpu_percent: (self.samples > 1).then(|| self.system.global_cpu_usage().clamp(0.0, 100.0)).map(tenths),
            memory_used_bytes: self.system.used_memory(),
            memory_total_bytes: self.system.total_memory(),
            // What the daemon may use: root's reserve is not room.
            disk_free_bytes: disk.map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size())),
            disk_total_bytes: disk.map(|disk| disk.blocks().saturating_mul(disk.fragment_size())),
            temperature_celsius: self.hottest().map(tenths),
        }
    }

    fn hottest(&mut self) -> Option<f32> {
        let sensors = self.sensors.as_mut()?;
        sensors.refresh(true);
        sensors
            .iter()
            .filter_map(sysinfo::Component::temperature)
            .filter(|celsius| CREDIBLE_CELSIUS.contains(celsius))
            .reduce(f32::max)
    }
}

/// Beyond a tenth it is noise, and would make each reading a change.
fn tenths(figure: f32) -> f32 {
    (figure * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_is_measured_and_the_processor_from_the_second_reading_on() {
        let (readings, mut received) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let dir = tempfile::tempdir().unwrap();
        let thread = spawn(dir.path().to_owned(), readings, cancel.clone()).unwrap();

        let first = received.recv().await.unwrap();
        assert_eq!(first.cpu_percent, None, "one sample is no difference");
        assert!(0 < first.memory_used_bytes && first.memory_used_bytes <= first.memory_total_bytes, "{first:?}");
        assert!(first.disk_free_bytes.unwrap() <= first.disk_total_bytes.unwrap(), "{first:?}");
        assert!(first.at > crate::clock::UnixMillis(1_700_000_000_000));

        let second = received.recv().await.unwrap();
        assert!((0.0..=100.0).contains(&second.cpu_percent.unwrap()), "{second:?}");
        cancel.cancel();
        thread.join().unwrap();
    }

    #[test]
    fn a_disk_that_does_not_answer_does_not_hold_up_the_end() {
        let (began, begun) = std::sync::mpsc::channel();
        let (answer, disk) = std::sync::mpsc::channel();
        let stuck = move || {
            began.send(()).unwrap();
            disk.recv().unwrap()
        };
        let (ended, end) = std::sync::mpsc::channel();
        let daemon = std::thread::spawn(move || {
            let (readings, _received) = mpsc::channel(1);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let thread = runtime.block_on(async { spawn_with(stuck, readings, CancellationToken::new()) }).unwrap();
            begun.recv().unwrap();
            drop(runtime);
            ended.send(()).unwrap();
            thread
        });
        end.recv_timeout(Duration::from_secs(30)).expect("the runtime ends while the disk is silent");
        answer.send(Ok(HostHealth { at: SystemTime::now().into(), ..HostHealth::default() })).unwrap();
        daemon.join().unwrap().join().unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_has_no_disk() {
        let health = Sampler::new().unwrap().sample(Path::new("/no/such/directory"));
        assert_eq!((health.disk_free_bytes, health.disk_total_bytes), (None, None));
    }

    #[test]
    fn two_hundred_readings_keep_no_file_open() {
        let mut sampler = Sampler::new().unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        sampler.sample(Path::new("/"));
        let before = open();
        for _ in 0..200 {
            sampler.sample(Path::new("/"));
        }
        // Other tests of this process open and close files meanwhile.
        assert!(open() < before + 100, "{before} files were open, now {}", open());
    }
}
