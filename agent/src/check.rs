//! `countersign-agent check`: the configuration, read as `run` would read it; signs nothing, tries no PIN.

use std::io::Write;
use std::path::Path;

use crate::config;

const OK: u8 = 0;
const BAD_CONFIGURATION: u8 = 78;

/// Says what the configuration holds, or what is wrong with it; returns the exit code.
pub fn check(path: &Path, json: bool) -> u8 {
    let (said, code) = match config::load(path) {
        Ok(config) if json => {
            let said = serde_json::json!({"v": 1, "summary": config.summary(), "warnings": config.warnings});
            (said.to_string(), OK)
        }
        Ok(config) => {
            let warnings = config.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
            (format!("{}: {}{}", path.display(), config.summary(), warnings.collect::<String>()), OK)
        }
        Err(error) if json => {
            let error = serde_json::json!({"code": "configuration", "message": error.to_string()});
            (serde_json::json!({"v": 1, "error": error}).to_string(), BAD_CONFIGURATION)
        }
        Err(error) => (error.to_string(), BAD_CONFIGURATION),
    };
    // Nobody is left to be told where this fails.
    let _ = writeln!(std::io::stdout(), "{said}");
    code
}
