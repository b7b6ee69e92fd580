//! Makes one table of everything that was measured, with the budgets at its end.
//!
//! The table is Markdown, so the terminal shows what the documentation contains.

use std::{fmt::Write as _, fs};

use crate::{
    Result,
    alternatives::{FUNCTION_POINTER, WITH},
    bound::Bound,
    call::{VERSUS_ONE_THREAD, VERSUS_POINTER},
    page, place, plot,
    rows::Rows,
    swap, traits,
};

/// Prints the table and writes it to the folder of the results. If asked to, also writes the documentation page.
pub(crate) fn run(write_docs: bool) -> Result {
    let report = Report(Rows::read()?);
    let tables = report.tables()?;
    let svg = plot::calls_per_second(&report.0)?;
    let is_quick = report.0.is_quick();
    print!("{}{tables}", page::heading(is_quick)?);
    let folder = place::results()?;
    fs::write(folder.join("table.md"), &tables)?;
    fs::write(folder.join("calls.svg"), &svg)?;
    if write_docs {
        page::write(&tables, &svg, is_quick)?;
    }
    Ok(())
}

struct Report(Rows);

/// A column: its title, and a test for the figures in it.
type Column = (String, String, u64);

impl Report {
    fn tables(&self) -> Result<String> {
        let mut text = String::new();
        self.calls(&mut text)?;
        self.traits(&mut text)?;
        self.instructions(&mut text)?;
        for (readers, title) in [
            (1, "One reader, on a core of its own"),
            (2, "Two readers, on any core"),
        ] {
            writeln!(text, "\n## {title}\n")?;
            self.pivot(&mut text, "storm", |case, count| {
                (count == readers).then(|| case.to_owned())
            })?;
        }
        for (title, measure) in [
            ("A swap, and the same by hand", "in all µs"),
            ("A refusal", "refused µs"),
        ] {
            writeln!(text, "\n## {title}\n")?;
            self.pivot(&mut text, "swap", |case, count| {
                self.get("swap", case, count, measure)
                    .map(|_| case.to_owned())
            })?;
        }
        writeln!(text, "\n## A trial\n")?;
        self.pivot(&mut text, "trial", |case, _| Some(case.to_owned()))?;
        writeln!(text, "\n## Memory of each generation that is mapped\n")?;
        self.pivot(&mut text, "memory", |case, _| Some(case.to_owned()))?;
        for title in [
            "threads one after the other",
            "generations",
            "plugins at once",
        ] {
            writeln!(text, "\n## How it grows: {title}\n")?;
            self.pivot(&mut text, "growth", |case, count| {
                (case == title).then(|| number(count as f64))
            })?;
        }
        writeln!(text, "\n## With so many threads that have called\n")?;
        self.pivot(&mut text, "threads", |_, count| Some(number(count as f64)))?;
        self.budgets(&mut text)?;
        Ok(text)
    }

    fn get(&self, section: &str, case: &str, count: u64, measure: &str) -> Option<f64> {
        self.0.get(section, case, count, measure)
    }

    fn calls(&self, text: &mut String) -> Result {
        writeln!(text, "\n## One call\n")?;
        writeln!(
            text,
            "| | ns | × function pointer | ns, two threads | × function pointer | × its own with one |"
        )?;
        writeln!(text, "|---|---:|---:|---:|---:|---:|")?;
        for (section, suffix) in [("call", ""), ("full_fence", ", full fence")] {
            for way in ways(&self.0, section) {
                if !suffix.is_empty() && way == FUNCTION_POINTER {
                    continue;
                }
                let cell = |count, measure| shown(self.get(section, &way, count, measure));
                writeln!(
                    text,
                    "| {}{suffix} | {} | {} | {} | {} | {} |",
                    escaped(&way),
                    cell(1, "ns"),
                    cell(1, VERSUS_POINTER),
                    cell(2, "ns"),
                    cell(2, VERSUS_POINTER),
                    cell(2, VERSUS_ONE_THREAD),
                )?;
            }
        }
        Ok(())
    }

    fn traits(&self, text: &mut String) -> Result {
        writeln!(text, "\n## One call of a trait\n")?;
        writeln!(text, "| | ns | compared with | ns | × |")?;
        writeln!(text, "|---|---:|---|---:|---:|")?;
        for (case, compared) in traits::CASES {
            let cell = |measure| shown(self.get("traits", case, 0, measure));
            writeln!(
                text,
                "| {case} | {} | {compared} | {} | {} |",
                cell(traits::NS),
                cell(traits::COMPARED_NS),
                cell(traits::RATIO),
            )?;
        }
        Ok(())
    }

    fn instructions(&self, text: &mut String) -> Result {
        writeln!(
            text,
            "\n## Instructions of one call, with the loop around it\n"
        )?;
        writeln!(
            text,
            "| | instructions | beyond the function pointer |\n|---|---:|---:|"
        )?;
        let pointer = self.get("instructions", FUNCTION_POINTER, 0, "instructions");
        for row in self.0.of("instructions") {
            let beyond = pointer.map(|pointer| row.value - pointer);
            writeln!(
                text,
                "| {} | {} | {} |",
                escaped(&row.case),
                number(row.value),
                shown(beyond)
            )?;
        }
        Ok(())
    }

    /// Writes a row for each measure, and a column for each case that `head` has a title for.
    fn pivot(
        &self,
        text: &mut String,
        section: &str,
        head: impl Fn(&str, u64) -> Option<String>,
    ) -> Result {
        let (mut columns, mut measures): (Vec<Column>, Vec<&str>) = (Vec::new(), Vec::new());
        for row in self.0.of(section) {
            let Some(head) = head(&row.case, row.count) else {
                continue;
            };
            let column = (head, row.case.clone(), row.count);
            if !columns.contains(&column) {
                columns.push(column);
            }
            if !measures.contains(&&*row.measure) {
                measures.push(&row.measure);
            }
        }
        let heads: String = columns
            .iter()
            .map(|(head, ..)| format!(" {head} |"))
            .collect();
        writeln!(text, "| |{heads}\n|---|{}", "---:|".repeat(columns.len()))?;
        for measure in measures {
            let cell = |(_, case, count): &Column| {
                format!(" {} |", shown(self.get(section, case, *count, measure)))
            };
            let cells: String = columns.iter().map(cell).collect();
            writeln!(text, "| {measure} |{cells}")?;
        }
        Ok(())
    }

    fn budgets(&self, text: &mut String) -> Result {
        writeln!(text, "\n## Budgets\n")?;
        writeln!(text, "| | budget | measured | |\n|---|---:|---:|---|")?;
        for (what, bound, unit, measured) in self.budget_rows() {
            let (sign, limit) = match bound {
                Bound::AtMost(limit) => ('≤', limit),
                Bound::AtLeast(limit) => ('≥', limit),
            };
            let verdict = bound.verdict(measured);
            writeln!(
                text,
                "| {what} | {sign} {limit} {unit} | {} | {verdict} |",
                shown(measured)
            )?;
        }
        Ok(())
    }

    fn budget_rows(&self) -> Vec<(String, Bound, &'static str, Option<f64>)> {
        use Bound::{AtLeast, AtMost};
        const STORM: &str = "beside a storm of swaps";
        let storm = |readers, measure| self.get("storm", STORM, readers, measure);
        let row = |what: &str, bound, unit, measured| (what.to_owned(), bound, unit, measured);
        let with = |threads, measure| self.get("call", WITH, threads, measure);
        let of_trait = |case: &str, measure| self.get("traits", case, 0, measure);
        let mut rows = vec![
            row(
                "`with`, one thread",
                AtMost(1.2),
                "× a function pointer",
                with(1, VERSUS_POINTER),
            ),
            row(
                "`with`, two threads, for each",
                AtMost(1.2),
                "× its cost with one",
                with(2, VERSUS_ONE_THREAD),
            ),
            row(
                "one reader on its own core beside a storm",
                AtLeast(0.9),
                "× its calls/s beside nobody",
                storm(1, "calls/s × beside nobody"),
            ),
            row(
                "two readers beside a storm",
                AtLeast(0.9),
                "× their calls/s beside a thread that spins",
                storm(2, "calls/s × beside a thread that spins"),
            ),
            row(
                "wrong answers",
                AtMost(0.0),
                "",
                storm(1, "wrong answers")
                    .zip(storm(2, "wrong answers"))
                    .map(|(a, b)| a + b),
            ),
        ];
        for (case, limit) in [
            (traits::NUMBER, 1.2),
            (traits::TEXT_COPIED, 1.0),
            (traits::RECORD, 1.6),
            (traits::ITEMS_GIVEN, 1.3),
        ] {
            rows.push((
                format!("a trait, {case}"),
                AtMost(limit),
                "× what it is compared with",
                of_trait(case, traits::RATIO),
            ));
        }
        rows.push(row(
            "a trait, an object's method",
            AtMost(8.0),
            "ns",
            of_trait(traits::OBJECT, traits::NS),
        ));
        let alone = of_trait(traits::ASYNC, traits::COMPARED_NS);
        rows.push(row(
            "a trait, an async method that is ready at once",
            AtMost(45.0),
            "ns beyond that future of the host's own",
            of_trait(traits::ASYNC, traits::NS)
                .zip(alone)
                .map(|(it, alone)| it - alone),
        ));
        for plugin in ["release", "debug"] {
            for (what, measure, limit) in [
                ("in all", swap::LEFT_RATIO, 1.2),
                ("processor time", swap::PROCESSOR_RATIO, 1.5),
            ] {
                let measured = self.get("swap", plugin, 0, measure);
                rows.push((
                    format!("swap of a {plugin} plugin, {what}"),
                    AtMost(limit),
                    "× by hand",
                    measured,
                ));
            }
        }
        let generations = |measure: &str| {
            let all = self
                .0
                .of("growth")
                .filter(|it| it.case == "generations" && it.measure == measure);
            all.map(|it| (it.count, it.value)).collect::<Vec<_>>()
        };
        // The first thousand swaps are the warm-up.
        if let [.., (warm_up, before), (last, after)] = generations("resident KiB")[..] {
            let before = self
                .get("growth", "generations", 1_000, "resident KiB")
                .filter(|_| last > 1_000)
                .unwrap_or(before);
            let what = format!(
                "resident growth, {} to {} swaps",
                number(warm_up.min(1_000) as f64),
                number(last as f64)
            );
            rows.push((what, AtMost(1024.0), "KiB", Some(after - before)));
        }
        for row in self
            .0
            .of("swap")
            .filter(|it| it.measure == swap::REFUSED_BEYOND)
        {
            rows.push((
                format!("refusing: {}", row.case),
                AtMost(500.0),
                "µs beyond its copy",
                Some(row.value),
            ));
        }
        rows
    }
}

/// The ways to call, in the order of measuring.
fn ways(rows: &Rows, section: &str) -> Vec<String> {
    let first = rows
        .of(section)
        .filter(|row| row.count == 1 && row.measure == "ns");
    first.map(|row| row.case.clone()).collect()
}

/// Escapes a name so that Markdown does not take it for HTML.
fn escaped(name: &str) -> String {
    name.replace('<', "\\<")
}

fn shown(value: Option<f64>) -> String {
    value.map_or("—".to_owned(), number)
}

/// A number with three significant digits, and with its thousands separated.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        1e6.. => return format!("{} M", number(value / 1e6)),
        _ if value.fract() == 0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let place = text.len().saturating_sub(3);
    if digits == 0 && value.abs() >= 1000.0 {
        format!("{},{}", &text[..place], &text[place..])
    } else {
        text
    }
}
