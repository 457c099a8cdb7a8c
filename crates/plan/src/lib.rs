//! From a lab to the wanted network, and from the found network to the wanted one in ordered steps.
