//! A copy of the PKCS#11 shim in a directory of its own, and the calls that it wrote down.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Shim {
    directory: tempfile::TempDir,
}

impl Shim {
    /// Passes calls on to this module. No fault is planned.
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

    /// Plans the faults from now on; an empty plan means none.
    pub(crate) fn plan(&self, plan: &str) {
        write_plan(&self.file("plan"), plan);
    }

    /// The number of calls of a function, in all processes.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let calls = fs::read_to_string(self.file("calls")).expect("readable");
        calls.lines().filter(|line| line.split(' ').next() == Some(function)).count()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Replaces a plan that a process reads at each call. It is written in place and in one write,
/// since the process holds it open.
pub(crate) fn write_plan(path: &Path, plan: &str) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("a plan");
    file.write_all_at(format!("{plan:<60}\n").as_bytes(), 0).expect("written");
}
