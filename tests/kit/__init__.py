"""The client and the three scripts: sandbox_kit, skill_env, skill_install, skill_imports."""
