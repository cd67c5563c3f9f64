"""What is handed out: meshes, skinned animations, pictures and the report."""
