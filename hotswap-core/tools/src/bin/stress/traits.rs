//! Plugins that implement a trait: data of many kinds and objects are passed to and fro on every generation.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use hotswap_core::Hotswap;
use hotswap_fixtures::{
    desk::{Desk, Listener, Session},
    shop::v1::{Everything, Line, Order, Page, Shop, Tree, Verdict},
};

use crate::{stress, trust};

pub(crate) fn pass_data(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Shop> = Hotswap::load(path, &trust())?;
    let lines: Vec<Line> = (1..4)
        .map(|price| Line {
            article: format!("article {price}"),
            price,
        })
        .collect();
    let order = Order {
        id: 7,
        lines: lines.clone(),
        note: Some("no".to_owned()),
    };
    let refused = Ok(Verdict::Refuse {
        why: "no".to_owned(),
        lines: lines.clone(),
    });
    let page = Page {
        total: 3,
        items: lines,
    };
    let tree = Tree {
        number: 1,
        below: vec![Tree::default()],
        beside: Some(Box::default()),
    };
    let all = Everything(
        (-1, 2, 0.5, 'ß', true, ()),
        [None, Some(String::new()), Some("text".to_owned())],
        HashMap::from([("a".to_owned(), vec![1, 2])]),
        BTreeMap::from([(1, Ok("one".to_owned())), (2, Err(-2))]),
        Duration::from_secs(1),
        SystemTime::UNIX_EPOCH,
        Box::new(Some(u128::MAX)),
    );
    let call = |plugin: &Hotswap<dyn Shop>| assert_eq!(plugin.with(|it| it.judge(&order)), refused);
    let run = |plugin: &Hotswap<dyn Shop>| {
        plugin.with(|it| {
            assert_eq!(it.echo_page(page.clone()), page);
            assert_eq!(it.echo_tree(tree.clone()), tree);
            assert_eq!(it.echo(&all), all);
        });
        let too_deep = (0..200).fold(Tree::default(), |inner, number| Tree {
            number,
            below: vec![inner],
            beside: None,
        });
        plugin
            .call(|it| it.echo_tree(too_deep))
            .expect_err("it is too deep");
    };
    stress(plugin, path, "data of a trait", call, run, swaps)
}

pub(crate) fn pass_objects(path: &Path, swaps: Range<u64>) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<dyn Desk> = Hotswap::load(path, &trust())?;
    let call = |plugin: &Hotswap<dyn Desk>| {
        let session = plugin.with(|it| it.open("Ada"));
        assert_eq!((session.hit(1), session.user()), (1, "Ada at 1".to_owned()));
    };
    let run = |plugin: &Hotswap<dyn Desk>| {
        plugin.with(|it| it.listen(Box::new(Ear::default())));
        plugin.with(|it| it.tell("text"));
        let sessions = plugin.with(|it| it.open_all(&["Ada".to_owned(), "Bob".to_owned()]));
        let sessions = sessions.expect("both have a name");
        let named = sessions.into_iter().map(|it| (String::new(), Some(it)));
        plugin.with(|it| it.hit_all(named.collect()));
        let session = plugin.with(|it| it.echo(Some(it.open("Ada"))));
        session.expect("it comes back").again().hit(1);
    };
    stress(plugin, path, "objects of a trait", call, run, swaps)
}

/// An object of the host, which plugins keep until they are retired.
#[derive(Default)]
struct Ear(AtomicU64);

impl Listener for Ear {
    fn hear(&self, text: &str) -> u64 {
        self.0.fetch_add(text.len() as u64, Ordering::Relaxed)
    }

    fn take(&self, session: Box<dyn Session>) {
        session.hit(1);
    }

    fn give(&self) -> Option<Box<dyn Session>> {
        None
    }
}
