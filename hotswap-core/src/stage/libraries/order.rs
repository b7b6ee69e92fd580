//! What is opened first, and in which order.

use std::collections::HashMap;

use super::{Found, Needed, NeededName, Search, rules::LibraryRefusal};
use crate::{error::ErrorKind, system::linker};

impl Search<'_> {
    /// If a library is opened first, what it needs is opened before it, by path, too: the linker would search for that
    /// by the lists of this library alone, without those of the plugin.
    pub(super) fn open_needs_first(&mut self) {
        let names = self.all.iter().map(|it| it.name.clone());
        let places: HashMap<String, usize> = names.zip(0..).collect();
        let is_first =
            |it: &NeededName| matches!(&it.found, Found::File(file) if file.is_opened_first);
        let all = 0..self.all.len();
        let mut open: Vec<usize> = all.filter(|&it| is_first(&self.all[it])).collect();
        while let Some(place) = open.pop() {
            for name in self.all[place].needs.clone() {
                let Some(&needed) = places.get(&name) else {
                    continue;
                };
                // The linker does not take a library by a name with `$` that was opened by its path.
                if let Found::File(file) = &mut self.all[needed].found
                    && !file.is_opened_first
                    && !name.contains('$')
                {
                    file.is_opened_first = true;
                    open.push(needed);
                }
            }
        }
    }

    /// Refuses a library that the linker cannot open by itself, if hotswap would open it first.
    pub(super) fn check_filters(&self) -> Result<(), ErrorKind> {
        if linker::opens_filters() {
            return Ok(());
        }
        for it in self.all.iter().filter(|it| it.is_filter) {
            if let Found::File(file) = &it.found
                && file.is_opened_first
            {
                let by = self.objects[it.by].name.clone();
                return Err(LibraryRefusal::at(&file.path, ErrorKind::Filter).of(&it.name, by));
            }
        }
        Ok(())
    }

    /// Sorts each library after those that it needs, except where they need each other.
    pub(super) fn in_order(self) -> Vec<Needed> {
        let places: HashMap<&str, usize> = self.all.iter().map(|it| &*it.name).zip(0..).collect();
        let mut order = Vec::new();
        let mut begun = vec![false; self.all.len()];
        // The libraries under way, each with the number of its needs that are done.
        let mut open = Vec::new();
        for first in 0..self.all.len() {
            open.extend((!begun[first]).then_some((first, 0)));
            begun[first] = true;
            while let Some((place, done)) = open.pop() {
                let needs = self.all[place].needs.get(done);
                let Some(next) = needs.and_then(|name| places.get(&**name)) else {
                    order.push(place);
                    continue;
                };
                open.push((place, done + 1));
                if !begun[*next] {
                    begun[*next] = true;
                    open.push((*next, 0));
                }
            }
        }
        let needed = |place: usize| Needed {
            name: self.all[place].name.clone(),
            found: self.all[place].found.clone(),
        };
        order.into_iter().map(needed).collect()
    }
}
