//! Measured figures, and the files that store them.

use std::{fmt::Write as _, fs};

use crate::{Result, place};

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The measurement that it comes from.
    pub(crate) section: String,
    /// What was measured.
    pub(crate) case: String,
    /// The number of threads, plugins or generations, depending on the section. 0: does not apply.
    pub(crate) count: u64,
    /// What the figure means; ends with its unit.
    pub(crate) measure: String,
    pub(crate) value: f64,
}

impl Row {
    /// What is measured. Rows with the same key are the same figure, measured by several processes.
    fn key(&self) -> (&str, &str, u64, &str) {
        (&self.section, &self.case, self.count, &self.measure)
    }
}

/// The measure that marks a quick run.
pub(crate) const QUICK: &str = "quick";

/// The figures of one section while it is measured, or of all sections.
#[derive(Debug)]
pub(crate) struct Rows {
    section: String,
    rows: Vec<Row>,
}

impl Rows {
    pub(crate) fn new(section: &str) -> Self {
        Self {
            section: section.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds a figure, and prints it for a user who waits.
    pub(crate) fn add(&mut self, case: &str, count: u64, measure: &str, value: f64) {
        eprintln!(
            "{:12} {case:34} {count:>7} {measure:28} {value:14.3}",
            self.section
        );
        self.rows.push(Row {
            section: self.section.clone(),
            case: case.to_owned(),
            count,
            measure: measure.to_owned(),
            value,
        });
    }

    /// Writes the file that `read` reads.
    pub(crate) fn write(&self) -> Result {
        let mut text = String::from("section,case,count,measure,value\n");
        for row in &self.rows {
            let texts = [&row.section, &row.case, &row.measure];
            assert!(!texts.iter().any(|text| text.contains(',')), "{row:?}");
            let [section, case, measure] = texts;
            writeln!(
                text,
                "{section},{case},{},{measure},{}",
                row.count, row.value
            )?;
        }
        let file = place::results()?.join(format!("{}.csv", self.section));
        Ok(fs::write(file, text)?)
    }

    /// Reads everything that was measured. A figure that several processes have measured is their median.
    pub(crate) fn read() -> Result<Self> {
        let mut rows: Vec<Row> = Vec::new();
        let mut values: Vec<Vec<f64>> = Vec::new();
        for entry in fs::read_dir(place::results()?)? {
            let path = entry?.path();
            if path.extension().is_none_or(|it| it != "csv") {
                continue;
            }
            for line in fs::read_to_string(path)?.lines().skip(1) {
                let row = parse(line)?;
                let known = rows.iter().position(|it| it.key() == row.key());
                match known {
                    Some(place) => values[place].push(row.value),
                    None => {
                        values.push(vec![row.value]);
                        rows.push(row);
                    }
                }
            }
        }
        for (row, values) in rows.iter_mut().zip(values) {
            row.value = median(values);
        }
        Ok(Self {
            section: String::new(),
            rows,
        })
    }

    /// Whether any figure is from a quick run.
    pub(crate) fn is_quick(&self) -> bool {
        let mut efforts = self.rows.iter().filter(|row| row.measure == QUICK);
        efforts.any(|row| row.value != 0.0)
    }

    /// The figures of a section, in the order of measuring.
    pub(crate) fn of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Row> {
        let measured = self.rows.iter().filter(|row| row.measure != QUICK);
        measured.filter(move |row| row.section == section)
    }

    pub(crate) fn get(&self, section: &str, case: &str, count: u64, measure: &str) -> Option<f64> {
        let key = (section, case, count, measure);
        let row = self.rows.iter().find(|it| it.key() == key)?;
        Some(row.value)
    }
}

fn parse(line: &str) -> Result<Row> {
    let words: Vec<&str> = line.split(',').collect();
    let [section, case, count, measure, value] = words[..] else {
        return Err(format!("not a row: {line}").into());
    };
    Ok(Row {
        section: section.to_owned(),
        case: case.to_owned(),
        count: count.parse()?,
        measure: measure.to_owned(),
        value: value.parse()?,
    })
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        values[half]
    } else {
        f64::midpoint(values[half - 1], values[half])
    }
}
