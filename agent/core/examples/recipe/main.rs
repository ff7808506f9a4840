//! Runs recipes outside the agent: it reads one JSON case a line and writes one answer a line.

mod case;
mod software;

use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            writeln!(out, "{}", case::answer(&line))?;
            out.flush()?;
        }
    }
    Ok(())
}
