//! Refuses to load a module from a directory to which the front can write. The settings come from
//! the front: a front that has been taken over could write a module and have a less confined
//! process load it.

use std::path::{Path, PathBuf};

use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use pkcs11_profiles::{Profile, Reach};

/// Refuses settings that load a file below one of `front_writes`.
///
/// The environment of a module of [`Reach::OwnFiles`] names only data. The environment of any other
/// module may name code.
pub(crate) fn check_untouched(
    settings: &TokenSettings,
    profile: &Profile,
    front_writes: &[PathBuf],
) -> Result<(), HostError> {
    let named = settings
        .environment
        .iter()
        .filter(|_| profile.reach != Reach::OwnFiles)
        .map(|(_, value)| value.as_str());
    let named = named.chain([settings.profile.as_str()]).map(Path::new);
    let loaded =
        settings.module.as_deref().into_iter().chain(named).filter(|path| path.is_absolute());
    for path in loaded {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let place = real(path);
        if front_writes.iter().any(|directory| place.starts_with(real(directory))) {
            let reason = "it lies where the agent writes its state or sockets, and nothing is \
                          loaded from there";
            return Err(HostError::Refused(format!("{}: {reason}", path.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_base::messages::settings::PinSource;

    use crate::token::pin::pin_tests::settings;

    #[test]
    fn nothing_is_loaded_from_where_the_front_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        std::fs::create_dir(&state).expect("made");
        std::fs::write(state.join("module.so"), "").expect("written");
        std::os::unix::fs::symlink(state.join("module.so"), directory.path().join("link.so"))
            .expect("linked");
        let (softhsm, opensc) =
            (Profile::named("softhsm").expect("one"), Profile::named("opensc").expect("one"));
        let text = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        let with = |change: &dyn Fn(&mut TokenSettings)| {
            let mut settings = settings(PinSource::Prompt, None);
            change(&mut settings);
            settings
        };
        let module = |name: &str| with(&|settings| settings.module = Some(text(name).into()));
        let profile = with(&|settings| settings.profile = text("state/profile.toml"));
        let configuration = with(&|settings| {
            settings.environment = vec![("C".to_owned(), text("state/opensc.conf"))]
        });
        let refused = |settings: &TokenSettings, profile| {
            check_untouched(settings, profile, std::slice::from_ref(&state)).is_err()
        };
        assert!(
            refused(&module("state/module.so"), softhsm) && refused(&module("link.so"), softhsm)
        );
        assert!(refused(&module("state/none/../module.so"), softhsm));
        assert!(refused(&profile, softhsm) && refused(&configuration, opensc));
        assert!(!refused(&module("module.so"), softhsm) && !refused(&configuration, softhsm));
        assert!(!refused(&settings(PinSource::Prompt, None), softhsm));
    }
}
