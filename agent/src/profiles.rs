//! `countersign-agent profiles`: the token types that are known, and which of their modules lie on this machine.

use std::io::Write;
use std::path::Path;

use pkcs11_profiles::{Profile, Tier};
use serde::Serialize;

#[derive(Serialize)]
struct Listing {
    v: u32,
    profiles: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    title: &'static str,
    tier: &'static str,
    /// The first library of the profile that is there.
    library: Option<&'static Path>,
}

/// Prints all profiles.
pub fn list(json: bool) -> anyhow::Result<()> {
    let profiles: Vec<_> = Profile::all().iter().map(row).collect();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &Listing { v: 1, profiles })?;
        writeln!(out)?;
        return Ok(());
    }
    for row in profiles {
        let none = if row.name == pkcs11_profiles::YUBIKEY { "by PC/SC" } else { "not installed" };
        let library = row.library.map_or_else(|| none.to_owned(), |path| path.display().to_string());
        writeln!(out, "{:<16} {:<10} {library}", row.name, row.tier)?;
    }
    Ok(())
}

fn row(profile: &'static Profile) -> Row {
    let tier = match profile.tier {
        Tier::Software => "software",
        Tier::Hardware => "hardware",
    };
    let library = profile.library_paths().iter().map(AsRef::as_ref).find(|path: &&Path| path.exists());
    Row { name: &profile.name, title: &profile.title, tier, library }
}
