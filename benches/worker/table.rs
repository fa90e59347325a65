//! One table: what was measured, the figure, the target and whether it was met.

use crate::server;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    pub(crate) fn ratio_at_least(&mut self, what: &str, figure: f64, target: f64) {
        let verdict = verdict(figure >= target);
        self.rows.push([what.to_owned(), format!("{figure:.2}"), format!(">= {target:.2}"), verdict]);
    }

    pub(crate) fn at_least(&mut self, what: &str, figure: f64, unit: &str, target: f64) {
        let verdict = verdict(figure >= target);
        self.rows.push([what.to_owned(), written(figure, unit), format!(">= {}", written(target, "")), verdict]);
    }

    pub(crate) fn at_most(&mut self, what: &str, figure: f64, unit: &str, target: f64) {
        let verdict = verdict(figure <= target);
        self.rows.push([what.to_owned(), written(figure, unit), format!("<= {}", written(target, "")), verdict]);
    }

    pub(crate) fn figure(&mut self, what: &str, figure: f64, unit: &str) {
        self.rows.push([what.to_owned(), written(figure, unit), String::new(), String::new()]);
    }

    pub(crate) fn print(&self) {
        let (_server, mut connection) = server::start();
        let version = server::info_text(&mut connection, "server", "redis_version");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!();
        println!(
            "{cores} cores, shared by Redis, worker, sandbox and whatever else runs · Redis {version} over loopback"
        );
        println!(
            "{} · jobs of {} bytes, ids, {} callers,",
            server::PERSISTENCE,
            crate::jobs::JOB_BYTES,
            crate::jobs::CALLERS
        );
        println!("check for duplicates and a limit for each caller on (never reached) · metrics on · medians");
        println!();
        let heading = ["measured", "figure", "target", ""].map(str::to_owned);
        let rows = || std::iter::once(&heading).chain(&self.rows);
        let widths: [usize; 3] =
            [0, 1, 2].map(|column| rows().map(|row| row[column].chars().count()).max().unwrap_or(0));
        for row in rows() {
            let [what, figure, target, verdict] = row;
            let line = format!("{what:<0$}  {figure:>1$}  {target:>2$}  {verdict}", widths[0], widths[1], widths[2]);
            println!("{}", line.trim_end());
        }
    }
}

fn verdict(met: bool) -> String {
    if met { "met" } else { "missed" }.to_owned()
}

fn written(figure: f64, unit: &str) -> String {
    let number = if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") };
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}
