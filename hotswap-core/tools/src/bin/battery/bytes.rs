//! Damage to bytes, whatever they mean: files cut short, zeroed, overwritten, or with bytes added before or after.

use std::{ops::Range, sync::Arc};

use crate::{
    cases::{Case, Demand, Edit},
    plugin::Plugin,
};

/// The size of a file system's block, and of a page.
const BLOCK_BYTES: usize = 4096;

/// The loader does not read the damaged bytes, but they are executed, or read by code that is executed.
const OVERWRITTEN: &str = "runs code: overwritten";

pub(crate) fn cases(base: &Arc<Plugin>) -> Vec<Case> {
    let length = base.bytes.len();
    let mut cases = Vec::new();
    for percent in 0..100 {
        let place = length * percent / 100;
        let mut add = |category, name: String, edit, demand| {
            let category = if demand == Demand::Anything {
                OVERWRITTEN
            } else {
                category
            };
            cases.push(Case::edited(category, &name, base, vec![edit], demand));
        };
        add(
            "truncated",
            format!("cut off at {percent} %"),
            Edit::Truncate(place),
            Demand::Refuse,
        );
        let tail = place..length;
        let demand = unseen(base, &tail);
        add(
            "tail zeroed",
            format!("zeros from {percent} % on"),
            Edit::Fill(tail, 0),
            demand,
        );
        for byte in [0, 0xff] {
            let block = place..length.min(place + BLOCK_BYTES);
            let demand = unseen(base, &block);
            let name = format!("{BLOCK_BYTES} bytes of {byte:#04x} at {percent} %");
            add("block overwritten", name, Edit::Fill(block, byte), demand);
        }
    }
    let block = vec![0; BLOCK_BYTES];
    for (name, edit, demand) in [
        ("one byte less", Edit::Truncate(length - 1), Demand::Refuse),
        ("a byte before it", Edit::Insert(0, vec![0]), Demand::Refuse),
        (
            "a line before it",
            Edit::Insert(0, b"#!/bin/sh\n".to_vec()),
            Demand::Refuse,
        ),
        (
            "a block before it",
            Edit::Insert(0, block.clone()),
            Demand::Refuse,
        ),
        (
            "a block in the middle of it",
            Edit::Insert(length / 2, block.clone()),
            Demand::Survive,
        ),
        (
            "a byte after it",
            Edit::Insert(length, vec![0]),
            Demand::Accept,
        ),
        (
            "a block after it",
            Edit::Insert(length, block),
            Demand::Accept,
        ),
        (
            "itself after it",
            Edit::Insert(length, base.bytes.clone()),
            Demand::Accept,
        ),
    ] {
        cases.push(Case::edited(
            "bytes added or missing",
            name,
            base,
            vec![edit],
            demand,
        ));
    }
    cases
}

/// The demand on a host whose candidate has overwritten bytes. If the bytes are not loaded, nothing is lost. If they
/// are, no inspection can tell damaged code and data from intact ones.
fn unseen(base: &Plugin, damaged: &Range<usize>) -> Demand {
    let overlaps = |it: &Range<usize>| damaged.start < it.end && it.start < damaged.end;
    let headers = 0..base.loaded()[0].start.max(crate::plugin::HEADER_BYTES);
    if overlaps(&headers) {
        Demand::Refuse
    } else if base.loaded().iter().any(overlaps) {
        Demand::Anything
    } else {
        Demand::Accept
    }
}
