//! The report: a table, the cases that killed a subject, and the outcomes that are not as demanded.

use std::collections::BTreeMap;

use crate::{
    cases::{Case, Demand},
    crash,
    subjects::{Outcome, SUBJECTS, Subject, hosts},
};

/// One case, and the outcome for each subject.
pub(crate) struct Row {
    category: &'static str,
    name: String,
    /// For each subject: the demand and the outcome. Not all cases are given to all subjects.
    outcomes: Vec<(Subject, Demand, Outcome)>,
}

/// All rows.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// How often each outcome occurred.
#[derive(Clone, Copy, Default)]
struct Counts {
    died: usize,
    hung: usize,
    refused: usize,
    accepted: usize,
    wrong: usize,
}

impl Row {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            category: case.category,
            name: case.name.clone(),
            outcomes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, case: &Case, subject: Subject, outcome: Outcome) {
        let demand = match subject {
            // Nothing is demanded of the system's own loader.
            Subject::Plain => Demand::Anything,
            Subject::Host => case.host,
            Subject::Tried => case.tried,
        };
        self.outcomes.push((subject, demand, outcome));
    }

    /// A row for one subject, about more than a file.
    pub(crate) fn of(
        category: &'static str,
        name: impl Into<String>,
        subject: Subject,
        demand: Demand,
        outcome: Outcome,
    ) -> Self {
        let outcomes = vec![(subject, demand, outcome)];
        Self {
            category,
            name: name.into(),
            outcomes,
        }
    }
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn is_as_demanded(&self) -> bool {
        let mut outcomes = self.rows.iter().flat_map(|row| &row.outcomes);
        !self.rows.is_empty() && outcomes.all(|(_, demand, outcome)| demand.is_met_by(outcome))
    }

    pub(crate) fn print(&self, texts: bool) {
        self.print_table();
        for subject in hosts() {
            self.print_killers(subject);
        }
        if texts {
            self.print_texts();
        }
        self.print_unmet();
    }

    fn print_table(&self) {
        print!("{:26} {:>6}", "", "");
        for subject in SUBJECTS {
            print!("  | {:36}", subject.title());
        }
        print!("\n{:26} {:>6}", "category", "cases");
        for _ in SUBJECTS {
            print!(
                "  | {:>6} {:>6} {:>7} {:>8} {:>5}",
                "died", "hung", "refused", "accepted", "wrong"
            );
        }
        println!();
        let mut categories: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !categories.contains(&row.category) {
                categories.push(row.category);
            }
        }
        for category in &categories {
            self.print_line(category, |row| row.category == *category);
        }
        self.print_line("all", |_| true);
        println!();
    }

    fn print_line(&self, title: &str, chosen: impl Fn(&Row) -> bool) {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| chosen(row)).collect();
        print!("{title:26} {:6}", rows.len());
        for subject in SUBJECTS {
            let mut counts = Counts::default();
            for (_, _, outcome) in rows
                .iter()
                .flat_map(|row| &row.outcomes)
                .filter(|it| it.0 == subject)
            {
                counts.add(outcome);
            }
            let Counts {
                died,
                hung,
                refused,
                accepted,
                wrong,
            } = counts;
            print!("  | {died:6} {hung:6} {refused:7} {accepted:8} {wrong:5}");
        }
        println!();
    }

    /// Prints the cases that a subject did not survive, or answered wrongly.
    fn print_killers(&self, subject: Subject) {
        let (mut lines, mut places) = (Vec::new(), Vec::new());
        for row in &self.rows {
            for (_, _, outcome) in row.outcomes.iter().filter(|it| it.0 == subject) {
                let how = match outcome {
                    Outcome::Died(how, place) => {
                        places.push(*place);
                        how
                    }
                    Outcome::Hung => "hung",
                    Outcome::Wrong(answer) => answer,
                    Outcome::Accepted | Outcome::Stays | Outcome::Refused(_) => continue,
                };
                lines.push(format!("  {}: {}: {how}", row.category, row.name));
            }
        }
        println!(
            "{}: {} cases that it did not survive, or answered wrongly",
            subject.title(),
            lines.len()
        );
        for place in crash::PLACES {
            let count = places.iter().filter(|it| **it == Some(place)).count();
            println!("  of these {count} crashed with the program counter {place}");
        }
        let unknown = places.iter().filter(|it| it.is_none()).count();
        println!("  of these {unknown} ended without a report of a crash");
        for line in lines {
            println!("{line}");
        }
        println!();
    }

    /// Prints the texts of the hosts' refusals. Texts that differ only in numbers count as one.
    fn print_texts(&self) {
        let mut texts: BTreeMap<String, (&str, usize)> = BTreeMap::new();
        for (subject, _, outcome) in self.rows.iter().flat_map(|row| &row.outcomes) {
            if let Outcome::Refused(why) = outcome
                && *subject != Subject::Plain
            {
                texts.entry(without_numbers(why)).or_insert((why, 0)).1 += 1;
            }
        }
        println!("{} texts of refusals, numbers apart:", texts.len());
        for (text, count) in texts.values() {
            println!("{count:6} {text}");
        }
        println!();
    }

    fn print_unmet(&self) {
        let mut count = 0;
        for row in &self.rows {
            for (subject, demand, outcome) in &row.outcomes {
                if !demand.is_met_by(outcome) {
                    println!(
                        "not as demanded ({demand:?}): {}: {}: {}: {outcome:?}",
                        subject.title(),
                        row.category,
                        row.name
                    );
                    count += 1;
                }
            }
        }
        println!("{count} outcomes are not as demanded");
    }
}

/// Replaces each word that contains a digit by one placeholder.
fn without_numbers(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| match word.find(|c: char| c.is_ascii_digit()) {
            Some(_) => "#",
            None => word,
        })
        .collect()
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Died(..) => &mut self.died,
            Outcome::Hung => &mut self.hung,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::Accepted | Outcome::Stays => &mut self.accepted,
            Outcome::Wrong(_) => &mut self.wrong,
        } += 1;
    }
}

impl Subject {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain dlopen (every 5th case)",
            Self::Host => "host",
            Self::Tried => "host with trial",
        }
    }
}
