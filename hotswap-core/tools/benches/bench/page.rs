//! The benchmark page of the documentation: its text, and the measured tables. No figure on the page is typed by
//! hand.

use std::{fs, path::Path, process::Command};

use crate::{Result, cores};

const WORDS: &str = "\
# What a call and a swap cost

What a call and a swap cost, in comparison with the alternatives. `scripts/bench` measures everything in a quarter \
of an hour, on a machine that has nothing else to do, and prints these tables; `scripts/bench quick` takes a \
minute; `scripts/bench --write-docs` writes this page. The ratios matter, not the absolute times: the alternatives \
take turns within milliseconds, and a ratio is taken within such a turn before the median over all turns is taken.

All ways of calling do the same: reach the current module under a guard that keeps it from being unmapped, take a \
bare `extern \"C\"` function from it, and call the function. The function pointer, `AtomicPtr` and libloading's \
`Symbol` have no such guard: nothing could ever be unmapped under them.

The loops that measure are aligned to 64 bytes. Otherwise chance decides at each build whether a loop crosses a line \
of the cache, which changes a call by up to half a nanosecond. Where the system maps a plugin and the host changes a \
call as much. So nine processes measure the calls of a trait, and their figures are the medians.

A virtual machine may give its free memory back to its host (free page reporting). Memory for a copy then costs what \
the host takes to give it again, which can be several times the rest of a swap. So as much memory as a swap needs is \
written to and freed before each swap, and before each by hand.
";

const PLOT: &str = "\n## Calls per second against threads\n\n";

/// The text above the tables, and the description of the machine.
pub(crate) fn heading(is_quick: bool) -> Result<String> {
    let warning = if is_quick {
        "\n**The figures below are from a quick run on a busy machine: placeholders, not to be quoted.**\n"
    } else {
        ""
    };
    Ok(format!("{WORDS}{warning}\nMeasured on {}.\n", machine()?))
}

/// Writes the page and its plot to `docs`.
pub(crate) fn write(tables: &str, svg: &str, is_quick: bool) -> Result {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::create_dir_all(&folder)?;
    let heading = heading(is_quick)?;
    fs::write(
        folder.join("benchmarks.md"),
        format!("{heading}{tables}{PLOT}"),
    )?;
    Ok(fs::write(folder.join("calls.svg"), svg)?)
}

fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("an unknown processor", |it| it.1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output()?.stdout;
        Ok(String::from_utf8_lossy(&output)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    };
    let rustc = version("rustc", "--version")?;
    let glibc = version("getconf", "GNU_LIBC_VERSION")?;
    let cores = cores::all()?.len();
    Ok(format!(
        "{model}, {cores} cores, Linux {}, {glibc}, {rustc}, release build",
        kernel.trim()
    ))
}
