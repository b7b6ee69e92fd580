//! Compares where walks lead with where the kernel's own walks lead.

use std::{
    fs::{create_dir, read_to_string, rename, write},
    io::Read,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::io::Errno;
use tempfile::TempDir;

use super::*;

fn walked(path: &Path) -> Result<OpenedFile, String> {
    open(path, |_| Ok(())).map_err(|refusal| {
        assert_eq!(refusal.stage(), crate::error::Stage::Open);
        refusal.to_string()
    })
}

/// Where the kernel's walk leads.
fn opened(path: &Path) -> Result<PathBuf, String> {
    match path.metadata() {
        Ok(it) if it.is_dir() => Err("a directory, not a file".to_owned()),
        Ok(_) => Ok(path.canonicalize().unwrap()),
        Err(error) => Err(match Errno::from_io_error(&error).unwrap() {
            Errno::LOOP => "the symbolic links lead in a circle".to_owned(),
            Errno::NOTDIR => "a part of the path is a file, and not a folder".to_owned(),
            Errno::NOENT if path.symlink_metadata().is_ok() => {
                "a symbolic link to nowhere".to_owned()
            }
            Errno::NOENT => "no such file".to_owned(),
            _ => error.to_string(),
        }),
    }
}

#[test]
fn a_walk_leads_where_the_kernel_s_walk_leads() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    create_dir(at("d")).unwrap();
    write(at("f"), "top").unwrap();
    write(at("d/f"), "below").unwrap();
    symlink("f", at("d/l")).unwrap();
    symlink("../d/", at("d/u")).unwrap();
    symlink(at("d/../d/./l"), at("l")).unwrap();
    symlink("f/", at("s")).unwrap();
    symlink("d//u/../../none", at("n")).unwrap();
    symlink("c", at("c")).unwrap();
    let names = ["f", "d", "l", "u", "s", "n", "c", "..", ".", "", "none"];
    let mut paths = vec![folder.path().display().to_string()];
    let (mut files, mut refusals) = (0, 0);
    for _ in 0..3 {
        let longer = paths
            .iter()
            .flat_map(|path| names.map(|name| format!("{path}/{name}")));
        paths = longer.collect();
        for path in paths.iter().map(Path::new) {
            let found = walked(path).map(|found| found.real);
            assert_eq!(found, opened(path), "{path:?}");
            *if found.is_ok() {
                &mut files
            } else {
                &mut refusals
            } += 1;
        }
    }
    assert!(files > 20 && refusals > 1000, "{files} {refusals}");
}

#[test]
fn a_relative_path_begins_in_the_current_folder() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"))
        .canonicalize()
        .unwrap();
    for path in ["./Cargo.toml", "Cargo.toml", "src/.././/Cargo.toml"] {
        let found = walked(path.as_ref()).unwrap();
        assert_eq!(found.real, package.join("Cargo.toml"));
        assert!(!found.followed_link);
    }
}

#[test]
fn as_many_links_are_followed_as_the_kernel_follows() {
    let folder = TempDir::new().unwrap();
    let at = |number: usize| folder.path().join(number.to_string());
    write(at(0), "").unwrap();
    for number in 1..=41 {
        symlink(at(number - 1), at(number)).unwrap();
    }
    assert!(walked(&at(40)).unwrap().followed_link);
    assert_eq!(
        walked(&at(41)).unwrap_err(),
        "the symbolic links lead in a circle"
    );
    assert_eq!(
        opened(&at(41)).unwrap_err(),
        "the symbolic links lead in a circle"
    );
}

#[test]
fn every_place_on_the_route_is_checked_in_order() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    create_dir(at("d")).unwrap();
    write(at("f"), "").unwrap();
    symlink("d/../f", at("l")).unwrap();
    let mut seen = Vec::new();
    let found = open(&at("l"), |place| {
        seen.push(place.real.to_owned());
        Ok(())
    });
    assert_eq!(found.unwrap().real, at("f").canonicalize().unwrap());
    let real = folder.path().canonicalize().unwrap();
    let above: Vec<_> = real.ancestors().map(Path::to_owned).collect();
    let mut expected: Vec<_> = above.into_iter().rev().collect();
    expected.extend(["l", "d", "", "f"].map(|name| {
        if name.is_empty() {
            real.clone()
        } else {
            real.join(name)
        }
    }));
    assert_eq!(seen, expected);
}

#[test]
fn a_refused_place_ends_the_walk() {
    let folder = TempDir::new().unwrap();
    let mut looks = 0;
    let refusal = open(&folder.path().join("none/such"), |place| {
        looks += 1;
        match place.real.parent() {
            None => Ok(()),
            Some(_) => Err(ErrorKind::NoPublicKey),
        }
    })
    .unwrap_err();
    assert!(matches!(refusal, ErrorKind::NoPublicKey));
    assert_eq!(looks, 2);
}

/// The bytes read are those of the file at the real path, although the link changes all the time.
#[test]
fn a_link_that_is_swapped_meanwhile_leads_to_one_of_both() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        create_dir(at(name)).unwrap();
        write(at(name).join("f"), name).unwrap();
    }
    symlink("a", at("l")).unwrap();
    let stop = AtomicBool::new(false);
    let mut seen = [0, 0];
    thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["a", "b"].iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                symlink(target, at("new")).unwrap();
                rename(at("new"), at("l")).unwrap();
            }
        });
        while seen.contains(&0) || seen.iter().sum::<usize>() < 500 {
            let mut found = walked(&at("l/f")).unwrap();
            let mut text = String::new();
            found.file.read_to_string(&mut text).unwrap();
            assert_eq!(text, read_to_string(&found.real).unwrap());
            assert!(found.followed_link);
            seen[usize::from(text == "b")] += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A folder `root/a` with a file, and one outside with another file of the same name; and what a file says.
fn inside_and_outside() -> (TempDir, impl Fn(&OpenedFile) -> String) {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["root", "root/a", "root/a/b", "out"] {
        create_dir(at(name)).unwrap();
    }
    write(at("root/a/f"), "inside").unwrap();
    write(at("out/f"), "outside").unwrap();
    let text = |found: &OpenedFile| {
        let mut text = String::new();
        (&found.file).read_to_string(&mut text).unwrap();
        text
    };
    (folder, text)
}

#[test]
fn dot_dot_leads_back_even_if_the_folder_was_moved() {
    let (folder, text) = inside_and_outside();
    let real = folder.path().canonicalize().unwrap();
    for way in ["root/a/b/../f", "root/a/b/./..//./f"] {
        let mut moves = 0;
        let found = open(&folder.path().join(way), |place| {
            if place.real.ends_with("a/b") {
                rename(real.join("root/a/b"), real.join("out/b")).unwrap();
                moves += 1;
            } else if moves > 0 && place.real.ends_with("root/a") {
                // The next round needs it, and it is not on the route any more.
                rename(real.join("out/b"), real.join("root/a/b")).unwrap();
            }
            Ok(())
        });
        let found = found.unwrap();
        assert_eq!(text(&found), "inside", "{way}");
        assert_eq!(found.real, real.join("root/a/f"));
        assert_eq!(moves, 1);
    }
}

#[test]
fn a_file_whose_folder_was_moved_meanwhile_is_not_taken() {
    let (folder, _) = inside_and_outside();
    let real = folder.path().canonicalize().unwrap();
    let way = folder.path().join("root/a/f");
    let mut moves = 0;
    // Moved for good: then there is no such file.
    let refusal = open(&way, |place| {
        if place.real.ends_with("a/f") && moves == 0 {
            rename(real.join("root/a"), real.join("out/a")).unwrap();
            moves += 1;
        }
        Ok(())
    });
    assert_eq!(refusal.unwrap_err().to_string(), "no such file");
    rename(real.join("out/a"), real.join("root/a")).unwrap();
    // Moved in each walk, and moved back before the next.
    let refusal = open(&way, |place| {
        if place.real.ends_with("a/f") {
            rename(real.join("root/a"), real.join("out/a")).unwrap();
            moves += 1;
        } else if place.real == Path::new("/") && real.join("out/a").exists() {
            rename(real.join("out/a"), real.join("root/a")).unwrap();
        }
        Ok(())
    });
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "the folders that lead to it keep changing"
    );
    assert_eq!(moves, 1 + WALKS_MAX);
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_walked_to_again() {
    let (folder, text) = inside_and_outside();
    let real = folder.path().canonicalize().unwrap();
    let mut is_replaced = false;
    let found = open(&real.join("out/f"), |place| {
        if place.real.ends_with("out/f") && !is_replaced {
            rename(real.join("root/a/f"), real.join("out/f")).unwrap();
            is_replaced = true;
        }
        Ok(())
    });
    assert_eq!(text(&found.unwrap()), "inside");
}
