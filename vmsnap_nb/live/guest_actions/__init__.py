"""How the steps that libvirt performs on a guest are carried out."""
