//! Measures how long a trial takes, in a small host and in one with 4 GiB of memory in use. The child is a program of
//! its own, so none of the host's memory is copied for it.

use std::hint::black_box;

use hotswap_core::{Hotswap, Settings, Swapped, Trial};
use hotswap_types::Plugin;

use crate::{
    Effort, Result,
    place::{self, Profile},
    rows::{Rows, median},
};

const BALLAST_BYTES: usize = 4 << 30;

/// The probe that runs in the child. It is like the demo's probe.
pub(crate) fn probe(plugin: &dyn Plugin) -> Result<(), String> {
    plugin.process("ping").map(drop)
}

pub(crate) fn run(trial: Trial<dyn Plugin>, effort: Effort, rows: &mut Rows) -> Result {
    measure(trial, "small host", effort, rows)?;
    // Written to, so that the memory is really allocated.
    let ballast = vec![1_u8; BALLAST_BYTES];
    measure(trial, "host with 4 GiB", effort, rows)?;
    black_box(&ballast);
    Ok(())
}

fn measure(trial: Trial<dyn Plugin>, case: &str, effort: Effort, rows: &mut Rows) -> Result {
    for profile in [Profile::Release, Profile::Debug] {
        let path = place::demo_plugin(profile)?;
        let settings = Settings {
            trial: Some(trial),
            ..Settings::default()
        };
        let plugin: Hotswap<dyn Plugin> = Hotswap::load_with(&path, &place::trust(), settings)?;
        let swaps = (0..effort.choose(20, 200)).map(|_| Ok(plugin.swap(&path)?));
        let swaps = swaps.collect::<Result<Vec<Swapped>>>()?;
        let micros = |of: &dyn Fn(&Swapped) -> f64| median(swaps.iter().map(of));
        let name = profile.name();
        rows.add(
            case,
            0,
            &format!("trial of a {name} plugin µs"),
            micros(&|it| it.phases.trial.as_secs_f64() * 1e6),
        );
        rows.add(
            case,
            0,
            &format!("inspecting a {name} plugin µs"),
            micros(&|it| it.phases.inspect.as_secs_f64() * 1e6),
        );
    }
    Ok(())
}
