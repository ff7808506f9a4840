//! Finds the files that a token's module needs once it is logged in, from its profile and its
//! environment.

use std::io::Read;
use std::path::{Path, PathBuf};

use pkcs11_profiles::{Profile, Reach};

use super::Files;
use crate::messages::settings::TokenSettings;

/// Longest part of a module's configuration that is searched for paths, in bytes.
const LONGEST_CONFIGURATION: u64 = 64 * 1024;

/// Devices for every reach: one that gives random bytes, and one that swallows all output.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];
/// Directories that libraries read late, for host names, certificates, character sets and devices.
const SYSTEM_DIRECTORIES: [&str; 10] =
    ["/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sys", "/usr", "/var/lib"];
/// Memory shared with a service.
const SHARED_MEMORY: &str = "/dev/shm";

/// The files of a token. For `own-files` these are its configuration and the paths that it names.
/// For any other reach the system's directories can be read as well.
pub fn token_files(profile: &Profile, settings: &TokenSettings) -> Files {
    let mut files = Files { network: profile.reach == Reach::Network, ..Files::default() };
    files.read.extend(DEVICES.map(PathBuf::from));
    files.write.push(DEVICES[0].into());
    // The first path that is there is used: the module looks no further either. A path of an
    // environment variable comes first.
    let configuration = profile
        .configuration
        .iter()
        .filter_map(|path| expanded(path, settings))
        .find(|path| path.exists());
    if let Some(configuration) = configuration {
        let named = absolute_paths(&text_of(&configuration));
        files.write.extend(named.iter().filter_map(|path| directory_of(path)));
        files.read.push(configuration);
    }
    files.write.extend(profile.writes.iter().filter_map(|path| expanded(path, settings)));
    if profile.reach != Reach::OwnFiles {
        files.read.extend(SYSTEM_DIRECTORIES.map(PathBuf::from));
        files.read.extend(
            settings
                .environment
                .iter()
                .map(|(_, value)| PathBuf::from(value))
                .filter(|path| path.is_absolute()),
        );
        files.read.extend(settings.module.as_deref().and_then(Path::parent).map(Path::to_owned));
        files.write.push(SHARED_MEMORY.into());
    }
    files
}

/// A path of a profile; `$NAME` stands for a variable of the token's environment.
fn expanded(path: &str, settings: &TokenSettings) -> Option<PathBuf> {
    let path = match path.strip_prefix('$') {
        None => path,
        Some(name) => &settings.environment.iter().find(|(variable, _)| variable == name)?.1,
    };
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

fn text_of(path: &Path) -> String {
    let mut text = String::new();
    // A file that cannot be read names no directory. The module itself reports the error.
    let _ = std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST_CONFIGURATION).read_to_string(&mut text));
    text
}

/// All absolute paths in a text of any syntax. Every path in a token's configuration belongs to the
/// token.
fn absolute_paths(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let words = lines.flat_map(|line| line.split([' ', '\t', '=', '"', '\'', ',', ';']));
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// The path itself if it is a directory, else the directory of the file, because a database has
/// files beside it. `None` for `/` and for a directory directly below it.
fn directory_of(path: &Path) -> Option<PathBuf> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    (directory.components().count() > 2 && directory.is_dir()).then(|| directory.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_the_tokens_own_directories() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = directory.path().join("tokens");
        std::fs::create_dir(&tokens).expect("made");
        let configuration = directory.path().join("softhsm2.conf");
        let text = format!(
            "# directories.tokendir = /etc/ssl\ndirectories.tokendir = {}\nlog.level = \
             ERROR\nother = \"/etc\" /\n\
             database = '{}/db.sql'\n",
            tokens.display(),
            tokens.display()
        );
        std::fs::write(&configuration, text).expect("written");
        let settings = crate::messages::settings::tests::settings();
        let settings = TokenSettings {
            environment: vec![("SOFTHSM2_CONF".to_owned(), configuration.display().to_string())],
            ..settings
        };
        let profile = Profile::named("softhsm").expect("shipped");
        let files = token_files(profile, &settings);
        assert_eq!(files.write, [PathBuf::from("/dev/null"), tokens.clone(), tokens]);
        assert!(
            files.read.contains(&configuration) && !files.read.contains(&"/etc".into()),
            "{files:?}"
        );
        assert!(!files.network);
    }

    #[test]
    fn a_token_on_a_network_reads_the_system_and_writes_what_its_profile_names() {
        let settings = crate::messages::settings::tests::settings();
        let files = token_files(Profile::named("luna").expect("shipped"), &settings);
        assert!(files.network && files.read.contains(&"/etc".into()), "{files:?}");
        assert!(!files.write.iter().any(|path| path == Path::new("/etc")), "{files:?}");
    }
}
