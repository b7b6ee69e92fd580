//! Two builds of one source, which differ in the feature `b`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cases::Case;

/// Where the two files are. The error is the compiler's first.
pub(crate) fn build(folder: &Path, case: &Case) -> Result<[PathBuf; 2], String> {
    let a = build_one(folder, case, "a", "")?;
    let b = build_one(folder, case, "b", "b")?;
    Ok([a, b])
}

fn build_one(folder: &Path, case: &Case, letter: &str, feature: &str) -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let package = format!("plugin-{}", case.package);
    let output = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            &package,
        ])
        .args(["--features", &format!("{} {feature}", case.features)])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(folder)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error"));
        return Err(error.unwrap_or("error: cargo does not say why").to_owned());
    }
    let built = folder.join(format!("release/lib{}.so", package.replace('-', "_")));
    let plugins = folder.join("plugins");
    let kept = plugins.join(format!("{}.{letter}.so", case.file_name()));
    fs::create_dir_all(&plugins)
        .and_then(|()| fs::copy(&built, &kept))
        .map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(kept)
}
