//! Reads as much of Prometheus' query language as a dashboard of ours needs; whatever else there is, it refuses.

use std::collections::BTreeSet;

/// A selection of series, as in `name{label="value"}[5m]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// The labels that it looks at, also those that an aggregation around it keeps.
    pub(crate) labels: BTreeSet<String>,
}

const AGGREGATIONS: [&str; 3] = ["avg", "max", "sum"];
/// Those that are given a selection with a duration.
const OVER_TIME: [&str; 2] = ["increase", "rate"];

/// The selectors of a query.
pub(crate) fn selectors(query: &str) -> Result<Vec<Selector>, String> {
    let mut reader = Reader(query);
    let selectors = reader.expression()?;
    match reader.0 {
        "" => Ok(selectors),
        rest => Err(format!("not understood: {rest:?}")),
    }
}

/// What is still to be read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn expression(&mut self) -> Result<Vec<Selector>, String> {
        let mut selectors = self.operand()?;
        while ["+", "-", "*", "/", ">"].iter().any(|it| self.take(it)) {
            selectors.extend(self.operand()?);
        }
        Ok(selectors)
    }

    fn operand(&mut self) -> Result<Vec<Selector>, String> {
        if self.take("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let word = self.word()?;
        if word.parse::<f64>().is_ok() {
            return Ok(Vec::new());
        }
        if AGGREGATIONS.contains(&word) {
            let mut kept = BTreeSet::new();
            if self.take("by") {
                self.expect("(")?;
                while !self.take(")") {
                    kept.insert(self.word()?.to_owned());
                    self.take(",");
                }
            }
            self.expect("(")?;
            let mut inner = self.expression()?;
            self.expect(")")?;
            inner
                .iter_mut()
                .for_each(|it| it.labels.extend(kept.iter().cloned()));
            return Ok(inner);
        }
        if OVER_TIME.contains(&word) {
            self.expect("(")?;
            let inner = self.selector()?;
            self.expect("[")?;
            self.expect("$__rate_interval")?;
            self.expect("]")?;
            self.expect(")")?;
            return Ok(vec![inner]);
        }
        if word == "histogram_quantile" {
            self.expect("(")?;
            self.word()?.parse::<f64>().map_err(|it| it.to_string())?;
            self.expect(",")?;
            let inner = self.expression()?;
            self.expect(")")?;
            let has_buckets =
                |it: &Selector| it.name.ends_with("_bucket") && it.labels.contains("le");
            return match inner.iter().all(has_buckets) {
                true => Ok(inner),
                false => Err(format!("a quantile of what has no buckets: {inner:?}")),
            };
        }
        Ok(vec![self.labelled(word)?])
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let name = self.word()?;
        self.labelled(name)
    }

    fn labelled(&mut self, name: &str) -> Result<Selector, String> {
        let mut labels = BTreeSet::new();
        if self.take("{") {
            while !self.take("}") {
                labels.insert(self.word()?.to_owned());
                if !["=~", "!~", "!=", "="].iter().any(|it| self.take(it)) {
                    return Err(format!("no comparison: {:?}", self.0));
                }
                self.expect("\"")?;
                let (_, rest) = self.0.split_once('"').ok_or("a text without end")?;
                self.0 = rest.trim_start();
                self.take(",");
            }
        }
        let name = name.to_owned();
        Ok(Selector { name, labels })
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let is_of_a_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let end = self.0.find(|c| !is_of_a_word(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        if word.is_empty() {
            return Err(format!("no word: {rest:?}"));
        }
        self.0 = rest.trim_start();
        Ok(word)
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.0.strip_prefix(token);
        self.0 = rest.map_or(self.0, str::trim_start);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.take(token) {
            true => Ok(()),
            false => Err(format!("no {token:?}: {:?}", self.0)),
        }
    }
}

#[test]
fn queries_are_read_or_refused() {
    let selector = |name: &str, labels: &[&str]| Selector {
        name: name.to_owned(),
        labels: labels.iter().map(|it| (*it).to_owned()).collect(),
    };
    let query = r#"sum by (phase) (rate(a_sum{b=~"$b", c!="}"}[$__rate_interval])) / 2 > (d)"#;
    let expected = [selector("a_sum", &["b", "c", "phase"]), selector("d", &[])];
    assert_eq!(selectors(query).unwrap(), expected);
    for wrong in [
        "",
        "sum by (a) (b",
        "rate(a)",
        "a{b}",
        "a{b=\"c}",
        "a b",
        "median(a)",
        "histogram_quantile(0.9, rate(a_bucket[$__rate_interval]))",
        "histogram_quantile(0.9, sum by (le) (a))",
    ] {
        let read = selectors(wrong);
        assert!(read.is_err(), "{wrong}: {read:?}");
    }
}
