//! What a lab asks for of this kernel.

use hopyard_kernel::rights::has_ipv6;
use hopyard_model::{Lab, Problem};
use hopyard_net::{Family, SysctlKey};
use hopyard_plan::Wanted;

/// Chooses everything that the lab leaves open; where the kernel has no IPv6, nothing of it, and says so.
///
/// # Errors
/// As [`hopyard_plan::desired`].
pub(crate) fn desired(lab: &Lab) -> Result<Wanted, Vec<Problem>> {
    if has_ipv6() { hopyard_plan::desired(lab) } else { without_ipv6(lab) }
}

/// What is given of it by hand stays, and is refused by the kernel.
fn without_ipv6(lab: &Lab) -> Result<Wanted, Vec<Problem>> {
    let mut wanted = hopyard_plan::desired(&lab.clone().without_family(Family::Ipv6))?;
    for space in wanted.state.namespaces.values_mut() {
        // What does not forward is as it shall be.
        if space.sysctls.get(&SysctlKey::IPV6_FORWARD).is_some_and(|value| value == "0") {
            space.sysctls.remove(&SysctlKey::IPV6_FORWARD);
        }
    }
    if lab.addressing().ipv6.is_some() {
        let message = "this kernel has no IPv6, so the lab has IPv4 alone";
        wanted.warnings.push(Problem::warning("no-ipv6", None, message).help(NO_IPV6));
    }
    Ok(wanted)
}

/// How it comes to be so, and the way out.
pub(crate) const NO_IPV6: &str = "the kernel was started with `ipv6.disable=1`, or has no module `ipv6`; \
    `addressing: { ipv6: none }` in the topology says that the lab needs none";

#[cfg(test)]
mod tests {
    use hopyard_model::LabDoc;

    use super::*;

    #[test]
    fn without_ipv6_nothing_of_it_is_asked_for_but_what_is_given() {
        let (lab, _) =
            LabDoc::named("three").node("a").node("r").node("b").link("a", "r").link("r", "b").resolve().unwrap();
        let wanted = without_ipv6(&lab).unwrap();
        assert_eq!(wanted.warnings.iter().map(|it| it.code.0).collect::<Vec<_>>(), ["no-ipv6"]);
        let steps = hopyard_plan::diff(&hopyard_net::NetState::default(), &wanted.state);
        let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|step| step.contains("10.")), "{texts:?}");
        assert!(!texts.iter().any(|step| step.contains("ipv6") || step.contains("fd68")), "{texts:?}");
        let told = lab.without_family(Family::Ipv6);
        assert!(without_ipv6(&told).unwrap().warnings.is_empty());
    }
}
