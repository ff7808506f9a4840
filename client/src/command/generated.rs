//! `completions` and `man`: texts generated from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use countersign::core::wire;
use serde::Serialize;

use super::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArguments {
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArguments {
    /// Write one file for each command here; without it, the main page goes to standard output
    directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Completions {
    v: u32,
    shell: String,
    script: String,
}

#[derive(Serialize)]
struct Page {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Serialize)]
struct Pages {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    pages: Vec<Page>,
}

pub(crate) fn completions(
    arguments: &CompletionsArguments,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "countersign", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let reply = Completions { v: wire::VERSION, shell: arguments.shell.to_string(), script };
    output.show(&reply, || reply.script.clone())
}

pub(crate) fn man(arguments: &ManArguments, output: &Output) -> Result<Exit, Failure> {
    let pages = all_pages().map_err(Failure::Output)?;
    let Some(directory) = &arguments.directory else {
        let main = pages[0].1.clone();
        let pages = pages.into_iter().map(|(name, text)| Page { name, text: Some(text) }).collect();
        return output.show(&Pages { v: wire::VERSION, directory: None, pages }, || main);
    };
    for (name, text) in &pages {
        write(directory, name, text)?;
    }
    let written = format!("wrote {} pages to {}", pages.len(), directory.display());
    let pages = pages.into_iter().map(|(name, _)| Page { name, text: None }).collect();
    output.show(&Pages { v: wire::VERSION, directory: Some(directory.clone()), pages }, || written)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
    written.map_err(|source| Failure::Write { path, source })
}

/// The page of every command, the main page first: file name and text.
fn all_pages() -> io::Result<Vec<(String, String)>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &clap::Command, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    // Pages have the names that clap gives to built commands, such as countersign-key-add.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .source("countersign")
        .render(&mut text)?;
    pages.push((format!("{name}.1"), String::from_utf8_lossy(&text).into_owned()));
    for sub in
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        add_pages(sub, pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = all_pages().expect("in memory");
        for name in [
            "countersign.1",
            "countersign-key.1",
            "countersign-key-add.1",
            "countersign-policy-explain.1",
        ] {
            let (_, text) = pages.iter().find(|(page, _)| page == name).expect(name);
            assert!(text.contains(".TH") && text.contains("SYNOPSIS"), "{name}");
        }
        let mut names: Vec<_> = pages.iter().map(|(name, _)| name).collect();
        names.dedup();
        assert_eq!(names.len(), pages.len());
    }
}
