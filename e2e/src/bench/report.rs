//! Prints the figures, each with its limit and the figure of kube-ovn 1.17 on the same kind of machine. Figures with a
//! limit are repeated at the end as the table of `docs/numbers.md`.

use std::time::Duration;

use super::stats::millis;

/// The maximum number of processes in a table.
const PROCESSES: usize = 8;

/// Prints figures and collects those for the table.
#[derive(Debug, Default)]
pub struct Report {
    about: String,
    table: Vec<[String; 5]>,
}

/// The limit of a figure. Several figures have one limit each.
#[derive(Clone, Copy, Debug)]
pub enum Bar<'a> {
    /// The maximum.
    AtMost(&'a [f64]),
    /// The minimum.
    AtLeast(&'a [f64]),
    /// No limit.
    None,
}

/// The unit of figures.
pub type Unit = &'static str;

impl Bar<'_> {
    /// Returns true if all figures meet their limits.
    pub fn is_met(self, figures: &[f64]) -> bool {
        match self {
            Self::AtMost(limits) => figures.iter().zip(limits).all(|(figure, limit)| figure <= limit),
            Self::AtLeast(limits) => figures.iter().zip(limits).all(|(figure, limit)| figure >= limit),
            Self::None => true,
        }
    }

    fn shown(self, unit: Unit) -> String {
        match self {
            Self::AtMost([0.0]) => plain(&[0.0], unit),
            Self::AtMost(limits) => format!("≤ {}", plain(limits, unit)),
            Self::AtLeast(limits) => format!("≥ {}", plain(limits, unit)),
            Self::None => String::new(),
        }
    }
}

impl Report {
    /// Starts a section: what the rows measure, and how.
    pub fn about(&mut self, what: &str, how: &str) {
        what.clone_into(&mut self.about);
        let comma = if how.is_empty() { "" } else { ", " };
        println!("\n{:<80} {:>16}             kube-ovn 1.17, measured once", format!("{what}{comma}{how}"), "bar");
    }

    /// Prints figures of one unit and adds them to the table.
    pub fn row(&mut self, what: &str, figures: &[f64], unit: Unit, bar: Bar<'_>, theirs: &str) {
        let (figure, shown) = (rounded(figures, unit), bar.shown(unit));
        let verdict = match bar {
            Bar::None => "",
            _ if bar.is_met(figures) => "met",
            _ => "missed",
        };
        println!("  {what:<58} {figure:>18}  {shown:>16}  {verdict:<6}    {theirs}");
        self.table.push([
            format!("{}: {}", self.about, what.trim_start()),
            figure,
            shown,
            verdict.to_owned(),
            theirs.to_owned(),
        ]);
    }

    /// Prints figures that only explain others.
    pub fn detail(&self, what: &str, figures: &[f64], unit: Unit, theirs: &str) {
        self.text(what, &rounded(figures, unit), theirs);
    }

    /// Prints a text in place of figures.
    #[allow(clippy::unused_self)] // it is printed among the others
    pub fn text(&self, what: &str, text: &str, theirs: &str) {
        println!("  {what:<58} {text:>18}  {:>16}  {:<6}    {theirs}", "", "");
    }

    /// Prints the CPU time by process, in total and per item.
    #[allow(clippy::cast_precision_loss, clippy::unused_self)] // a count is small; it is printed among the others
    pub fn processes(&self, title: &str, cpu: &[(String, Duration)], count: usize) {
        println!("  {title}:");
        for (name, time) in cpu.iter().take(PROCESSES).filter(|(_, time)| !time.is_zero()) {
            let each = millis(*time) / count as f64;
            println!("    {name:<56} {:>10.2} s {each:>6.2} ms each", time.as_secs_f64());
        }
    }

    /// Returns the table in Markdown.
    pub fn table(&self) -> String {
        let heading = ["", "here", "bar", "", "kube-ovn 1.17"].map(str::to_owned);
        let lines = [heading, ["---"; 5].map(str::to_owned)].into_iter().chain(self.table.iter().cloned());
        lines.map(|cells| format!("| {} |", cells.join(" | "))).collect::<Vec<_>>().join("\n")
    }
}

/// Formats figures with a suitable number of digits.
fn rounded(figures: &[f64], unit: Unit) -> String {
    let largest = figures.iter().copied().fold(0.0, f64::max);
    let digits = match unit {
        "s" | "ms" | "MiB" if largest < 1.0 => 2,
        "s" | "ms" | "MiB" if largest < 100.0 => 1,
        _ => 0,
    };
    let texts: Vec<_> = figures.iter().map(|figure| format!("{figure:.digits$}")).collect();
    format!("{} {unit}", texts.join(" / ")).trim_end().to_owned()
}

/// Formats figures without rounding.
fn plain(figures: &[f64], unit: Unit) -> String {
    let texts: Vec<_> = figures.iter().map(ToString::to_string).collect();
    format!("{} {unit}", texts.join(" / ")).trim_end().to_owned()
}

/// Formats a number with separators: `3,000`.
pub fn thousands(count: usize) -> String {
    if count < 1000 { count.to_string() } else { format!("{},{:03}", thousands(count / 1000), count % 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_and_kept_for_the_table() {
        let mut report = Report::default();
        report.about("1,000 pods", "medians of 3");
        report.row("from start to end", &[238.4], "pods/s", Bar::AtLeast(&[200.0]), "33-36");
        report.row("p50 / p99", &[7.71, 113.0], "ms", Bar::AtMost(&[12.0, 25.0]), "");
        report.row("memory", &[34.04], "MiB", Bar::None, "125 MiB");
        report.detail("operations", &[9.0], "", "");
        let expected = [
            "|  | here | bar |  | kube-ovn 1.17 |",
            "| --- | --- | --- | --- | --- |",
            "| 1,000 pods: from start to end | 238 pods/s | ≥ 200 pods/s | met | 33-36 |",
            "| 1,000 pods: p50 / p99 | 8 / 113 ms | ≤ 12 / 25 ms | missed |  |",
            "| 1,000 pods: memory | 34.0 MiB |  |  | 125 MiB |",
        ];
        assert_eq!(report.table(), expected.join("\n"));
    }

    #[test]
    fn digits_say_something() {
        assert_eq!(rounded(&[0.416], "ms"), "0.42 ms");
        assert_eq!(rounded(&[0.0], ""), "0");
        assert_eq!(thousands(1_003_000), "1,003,000");
        assert!(Bar::AtMost(&[0.0]).is_met(&[0.0]) && !Bar::AtLeast(&[0.9]).is_met(&[0.89]));
    }
}
