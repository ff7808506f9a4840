//! Recipes from outside the agent: one JSON case a line in, what the recipe makes of it a line out.

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
