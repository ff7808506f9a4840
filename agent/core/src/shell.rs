//! Writes paths for commands that people copy from a message into a shell.

use std::path::Path;

/// The path as one word of a shell's command line. It is in quotes if a shell would read any of its
/// characters otherwise.
pub fn path(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@,:".contains(byte);
    let text = path.to_string_lossy();
    match !text.is_empty() && text.as_bytes().iter().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_the_path() {
        for (name, word) in [
            ("/etc/countersign/agent.toml", "/etc/countersign/agent.toml"),
            ("/home/a/my agent/agent.toml", "'/home/a/my agent/agent.toml'"),
            ("/x/it's $HOME", r"'/x/it'\''s $HOME'"),
            ("/x/`id`;~*", "'/x/`id`;~*'"),
            ("~/x", "'~/x'"),
            ("", "''"),
            ("/x/ä", "'/x/ä'"),
        ] {
            assert_eq!(path(Path::new(name)), word);
        }
    }
}
