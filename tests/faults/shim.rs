//! A copy of the PKCS#11 shim in a directory of its own, and what it wrote down.

use std::fs;
use std::path::{Path, PathBuf};

use super::write_plan;

#[derive(Debug)]
pub(crate) struct Shim {
    directory: tempfile::TempDir,
}

impl Shim {
    /// In front of this module, with no fault planned.
    pub(crate) fn of(module: &Path) -> Self {
        let directory =
            tempfile::Builder::new().prefix("countersign-shim").tempdir().expect("a directory");
        let shim = Self { directory };
        // Cargo puts the libraries a test depends on beside the test.
        let built = std::env::current_exe().expect("a test").with_file_name("libpkcs11_shim.so");
        fs::copy(built, shim.module()).expect("built with the tests");
        fs::write(shim.file("real"), module.to_str().expect("UTF-8")).expect("written");
        fs::write(shim.file("plan"), "").expect("written");
        fs::write(shim.file("calls"), "").expect("written");
        shim
    }

    pub(crate) fn module(&self) -> PathBuf {
        self.file("libshim.so")
    }

    /// What goes wrong from now on; nothing where empty.
    pub(crate) fn plan(&self, plan: &str) {
        write_plan(&self.file("plan"), plan);
    }

    /// How often a function was called, in all processes.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let calls = fs::read_to_string(self.file("calls")).expect("readable");
        calls.lines().filter(|line| line.split(' ').next() == Some(function)).count()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
