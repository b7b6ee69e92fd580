//! Measures the memory of a mapped generation, in comparison with an image opened by hand.

use std::{fs, path::Path, thread, time::Duration};

use hotswap_core::Hotswap;
use hotswap_types::Plugin;

use crate::{
    Result,
    by_hand::{self, Copy},
    place::{self, Profile},
    rows::Rows,
};

/// How many are held at once.
const HELD: usize = 100;

/// After this time, the held images have freed what they needed only for loading.
const SETTLED: Duration = Duration::from_secs(2);

/// The timeout for events that must happen.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(rows: &mut Rows) -> Result {
    for profile in [Profile::Release, Profile::Debug] {
        let path = place::demo_plugin(profile)?;
        let plugin: Hotswap<dyn Plugin> = place::load(&path)?;
        let case = profile.name();
        let file = fs::metadata(&path)?.len() as f64 / 1024.0;
        rows.add(case, HELD as u64, "the copy KiB", file);
        // One run to warm up: things that are created once, and heap that can be reused.
        leases(&plugin, &path)?;
        let ours = leases(&plugin, &path)?;
        rows.add(case, HELD as u64, "of its own KiB", ours.own);
        rows.add(case, HELD as u64, "mapped of the copy KiB", ours.mapped);
        plugin.shutdown(EVENT_TIMEOUT);
        let by_hand = images(&path)?;
        rows.add(case, HELD as u64, "by hand: of its own KiB", by_hand.own);
        rows.add(
            case,
            HELD as u64,
            "by hand: mapped of the copy KiB",
            by_hand.mapped,
        );
    }
    Ok(())
}

/// Resident memory, in KiB.
#[derive(Clone, Copy)]
struct Resident {
    /// Heap, and pages of the image that were written to.
    own: f64,
    /// Pages of the copy that were touched. The whole copy is in memory, touched or not.
    mapped: f64,
}

impl Resident {
    fn now() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.ok_or("not Linux")?.parse()?)
        };
        Ok(Self {
            own: field("RssAnon:")?,
            mapped: field("RssShmem:")?,
        })
    }

    /// The growth since `self`, for each held image.
    fn each_since(self) -> Result<Self> {
        let now = Self::now()?;
        Ok(Self {
            own: (now.own - self.own) / HELD as f64,
            mapped: (now.mapped - self.mapped) / HELD as f64,
        })
    }
}

/// Measures generations that leases hold.
fn leases(plugin: &Hotswap<dyn Plugin>, path: &Path) -> Result<Resident> {
    let before = Resident::now()?;
    let mut leases = Vec::new();
    let mut retired = Vec::new();
    for _ in 0..HELD {
        leases.push(plugin.lease());
        retired.push(plugin.swap(path)?.retired);
    }
    // Memory that is held only for a moment does not count.
    thread::sleep(SETTLED);
    let each = before.each_since();
    drop(leases);
    // The order in which they are dropped does not matter.
    for generation in retired {
        plugin.wait(generation, EVENT_TIMEOUT);
    }
    each
}

fn images(path: &Path) -> Result<Resident> {
    let before = Resident::now()?;
    let load = |_| Ok(by_hand::load(path, Copy::Memory)?.0);
    let images = (0..HELD).map(load).collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLED);
    let each = before.each_since();
    drop(images);
    each
}
