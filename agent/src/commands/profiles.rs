//! `countersign-agent profiles`: lists the token types that are known, and the modules of them that
//! are on this machine.

use std::path::Path;

use pkcs11_profiles::{ModuleTier, Profile};
use serde::Serialize;

#[derive(Serialize)]
struct ProfileListing {
    v: u32,
    profiles: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    title: &'static str,
    tier: &'static str,
    /// The first library of the profile that is on this machine.
    library: Option<&'static Path>,
}

/// All profiles, one on each line, or as one JSON object.
pub fn list(json: bool) -> serde_json::Result<String> {
    let profiles: Vec<_> = Profile::all().iter().map(row).collect();
    if json {
        return serde_json::to_string(&ProfileListing { v: 1, profiles });
    }
    let line = |row: Row| {
        let none = if row.name == pkcs11_profiles::YUBIKEY { "by PC/SC" } else { "not installed" };
        let library =
            row.library.map_or_else(|| none.to_owned(), |path| path.display().to_string());
        format!("{:<16} {:<10} {library}\n", row.name, row.tier)
    };
    Ok(profiles.into_iter().map(line).collect())
}

fn row(profile: &'static Profile) -> Row {
    let tier = match profile.tier {
        ModuleTier::Software => "software",
        ModuleTier::Hardware => "hardware",
    };
    let library =
        profile.library_paths().iter().map(AsRef::as_ref).find(|path: &&Path| path.exists());
    Row { name: &profile.name, title: &profile.title, tier, library }
}
